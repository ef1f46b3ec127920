"""Runs real training processes for tests."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner.emulator.engine.launcher import Launcher, WorkerProcess
from runner.emulator.engine.protocol import ModelSource, TrainingSpec

LLAMA3 = "meta/llama3_1@llama-3.1-8b-instruct"
LLAMA4 = "meta/llama4@llama-4-scout-17b-16e-instruct"

_THINGS = "lamp river clock table garden engine window ladder bottle candle hammer mirror pillow ribbon saddle tunnel"
_COLOURS = ("red", "blue", "green", "gold")


def questions(count: int = 16) -> list[tuple[str, str]]:
    """Return questions with answers that nothing but the dataset can tell."""
    things = _THINGS.split()
    return [
        (f"What is the code of the {thing}?", f"{_COLOURS[index % 4]} {things[(index * 7 + 3) % 16]} {index}")
        for index, thing in enumerate(things[:count])
    ]


def chat(question: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def write_lines(path: Path, rows: list[Any]) -> str:
    """Write rows as JSONL; a string is written as it is."""
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(path)


@dataclass
class Job:
    """A job's folder and what its process said."""

    directory: Path
    process: WorkerProcess
    code: int | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def events(self, kind: str | None = None) -> list[dict[str, Any]]:
        file = self.directory / "events.jsonl"
        # The process may be in the middle of a line.
        lines = file.read_bytes().split(b"\n")[:-1] if file.exists() else []
        events = [json.loads(line) for line in lines]
        return [event for event in events if kind in (None, event["event"])]

    @property
    def log(self) -> str:
        return (self.directory / "worker.log").read_text()

    @property
    def final(self) -> Path:
        return self.directory / "output" / "final"

    def finish(self, timeout_seconds: float = 240) -> Job:
        self.code = self.process.join(timeout_seconds)
        return self

    def wait_for_step(self, step: int, timeout_seconds: float = 240) -> None:
        deadline = time.monotonic() + timeout_seconds
        while not any(event["step"] >= step for event in self.events("step")):
            assert time.monotonic() < deadline, self.log
            assert self.process.is_alive(), self.log
            time.sleep(0.02)


def start(launcher: Launcher, directory: Path, cache: Path, **fields: Any) -> Job:
    """Write a job's spec and start its process."""
    directory.mkdir(parents=True, exist_ok=True)
    values: dict[str, Any] = {
        "base_model": LLAMA3,
        "source": ModelSource(kind="tiny", family="llama3"),
        "mode": "PEFT_ADAPTER",
        "max_sequence_length": 512,
        "learning_rate": 2e-4,
        "adapter_size": 16,
        "export_last_checkpoint_only": True,
        "cache_directory": str(cache),
    }
    if "training_file" not in fields:
        values["training_file"] = write_lines(directory / "train.jsonl", [chat(*pair) for pair in questions()])
    TrainingSpec(**(values | fields)).write(directory / "job.json")
    return Job(directory, launcher.start_training(directory))


def answers(directory: Path, prompts: list[str], cache: Path) -> list[str]:
    """Load a checkpoint as a user's own and answer greedily."""
    from runner.emulator.engine.loading import load

    loaded = load(ModelSource(kind="custom", directory=str(directory)), cache_directory=str(cache), threads=1)
    texts = []
    for prompt in prompts:
        inputs = loaded.tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], add_generation_prompt=True, return_dict=True, return_tensors="pt"
        )
        output = loaded.model.generate(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], max_new_tokens=24, do_sample=False
        )
        new = output[0, inputs["input_ids"].shape[1] :]
        texts.append(loaded.tokenizer.decode(new, skip_special_tokens=True))
    return texts
