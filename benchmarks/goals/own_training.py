"""Jobs of the emulator's training process, and the same work for other programs."""

from __future__ import annotations

import itertools
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.goals import machine
from runner.emulator.engine.launcher import Launcher, WorkerProcess
from runner.emulator.engine.protocol import TrainingSpec


@dataclass(frozen=True, slots=True)
class Trained:
    """The measurements of a training program."""

    losses: list[float]
    seconds: list[float]
    """Duration of each step."""
    tokens: list[int]
    """Tokens in each step, without padding."""
    peak_megabytes: float
    device_megabytes: float = 0.0

    @property
    def rate(self) -> float:
        """Return tokens per second without the first step, which allocates memory."""
        return sum(self.tokens[1:]) / sum(self.seconds[1:])


def make_rows(count: int, answer_words: int) -> list[dict[str, Any]]:
    """Return chats with a prompt of about 40 tokens and a short answer."""
    from benchmarks.goals.dataset_files import paragraphs

    texts = [text.split() for text in paragraphs() if len(text) > 300]
    rows = []
    for number in range(count):
        words = texts[number % len(texts)]
        question = f"{number}. " + " ".join(words[: 16 + number % 9])
        answer = " ".join(words[30 : 30 + answer_words])
        rows.append({"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]})
    return rows


def run_job(launcher: Launcher, folder: Path, spec: TrainingSpec, kill_after: int | None = None) -> WorkerProcess:
    """Train in a folder until the end, or kill the process after `kill_after` steps.

    Raises:
        RuntimeError: the process failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    spec.write(folder / "job.json")
    worker = launcher.start_training(folder)
    while worker.is_alive():
        if kill_after is not None and len(events(folder, "step")) >= kill_after:
            worker.kill()
        time.sleep(0.02)
    code = worker.join()
    if code and kill_after is None:
        raise RuntimeError((folder / "worker.log").read_text()[-2000:])
    return worker


def events(folder: Path, kind: str) -> list[dict[str, Any]]:
    """Return the events of a job."""
    path = folder / "events.jsonl"
    if not path.exists():
        return []
    lines = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
    return [one for one in lines if one["event"] == kind]


def trained(folder: Path) -> Trained:
    """Return the measurements of the process of a folder."""
    steps = events(folder, "step")
    counted = [0, *(one["tokens"] for one in steps)]
    times = [events(folder, "dataset")[0]["time"], *(one["time"] for one in steps)]
    facts = json.loads((folder / "output" / "final" / "run.json").read_text())
    return Trained(
        [one["loss"] for one in steps],
        [late - early for early, late in itertools.pairwise(times)],
        [late - early for early, late in itertools.pairwise(counted)],
        facts["peakMemoryMegabytes"],
        facts.get("peakDeviceMegabytes", 0.0),
    )


def write_work(spec: TrainingSpec, directory: str, path: Path, *, device: str, dtype: str) -> list[int]:
    """Write the batches and learning rates of a job for `bare_training`; return the tokens of each step."""
    from transformers import AutoTokenizer

    from runner.emulator.engine.batches import epoch_order
    from runner.emulator.engine.dataset import Tokenizer, read_dataset
    from runner.emulator.engine.sources import effective_learning_rate
    from runner.emulator.engine.training import rate_at

    tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    reader = Tokenizer(tokenizer, None, max_length=spec.max_sequence_length, files={})
    examples = read_dataset(Path(spec.training_file), reader, images=False).examples
    lengths = [len(one.tokens) for one in examples]
    orders = [
        batch
        for epoch in range(spec.epochs)
        for batch in epoch_order(lengths, spec.batch_size, seed=spec.seed, epoch=epoch)
    ]
    peak = effective_learning_rate(spec.source, spec.base_model, spec.mode, spec.learning_rate)
    total = spec.epochs * math.ceil(len(lengths) / spec.batch_size)
    work = {
        "batches": [
            [{"input_ids": examples[index].tokens, "labels": examples[index].labels} for index in batch]
            for batch in orders
        ],
        "rates": [rate_at(step, total, peak) for step in range(total)],
        "padding": tokenizer.pad_token_id or 0,
        "mode": spec.mode,
        "rank": spec.adapter_size,
        "seed": spec.seed,
        "threads": spec.threads,
        "device": device,
        "dtype": dtype,
    }
    path.write_text(json.dumps(work))
    return [sum(lengths[index] for index in batch) for batch in orders]


def read_bare(output: str, tokens: list[int]) -> Trained:
    """Parse the last line that `bare_training` printed."""
    body = json.loads(output.strip().splitlines()[-1])
    return Trained(body["losses"], body["seconds"], tokens, body["peakMegabytes"], body["deviceMegabytes"])


def memory_of(worker: WorkerProcess) -> float:
    """Return the peak memory of a running worker."""
    assert worker.pid is not None
    return machine.memory(worker.pid)[1]
