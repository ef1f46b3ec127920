"""Compare the emulator's training process with TRL's SFTTrainer and a plain PyTorch loop with PEFT on the same batches.

They train SmolLM2-135M-Instruct with LoRA on short answers, with eight examples per batch. All programs start from the
same adapters, use the same batches in the same order with the same learning rates, and have one thread per core. They
run alternately, each in its own process. The rates omit the first step.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import time
from pathlib import Path

from benchmarks.goals import peers
from benchmarks.goals.figures import Run, at_least, at_most
from benchmarks.goals.own_training import Trained, events, make_rows, read_bare, run_job, trained, write_work
from runner.emulator.engine.launcher import Launcher
from runner.emulator.engine.processors import multiplies_faster_in_bfloat16
from runner.emulator.engine.protocol import ModelSource, TrainingSpec
from runner.emulator.engine.smollm2 import prepare_smollm2

_BASE = "meta/llama3_1@llama-3.1-8b-instruct"
_SCRIPT = Path(__file__).with_name("bare_training.py")
_STEPS = {"full": 8, "short": 4, "tiny": 2}


def measure(run: Run) -> None:
    """Train with all programs alternately."""
    python = peers.environment("models", peers.MODELS)
    run.peers |= peers.versions(python, ("transformers", "trl", "peft", "torch"))
    models = peers.cache() / "weights"
    weights = prepare_smollm2(models)
    batch = 2 if run.size == "tiny" else 8
    file = run.folder / "train.jsonl"
    rows = make_rows(_STEPS[run.size] * batch, answer_words=6)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    threads = 1 if run.size == "tiny" else len(os.sched_getaffinity(0))
    spec = TrainingSpec(
        base_model=_BASE,
        source=ModelSource(kind="smollm2"),
        mode="PEFT_ADAPTER",
        training_file=str(file),
        max_sequence_length=512,
        learning_rate=2e-4,
        batch_size=batch,
        adapter_size=8,
        export_last_checkpoint_only=True,
        threads=threads,
        cache_directory=str(models),
    )
    dtype = "bfloat16" if multiplies_faster_in_bfloat16() else "float32"
    work = run.folder / "work.json"
    tokens = write_work(spec, str(weights), work, device="cpu", dtype=dtype)
    names = {"trl": "TRL's SFTTrainer", "plain": "a plain PyTorch loop with PEFT"}
    if run.size == "tiny":
        del names["plain"]
    found: dict[str, list[Trained]] = {name: [] for name in ("ours", *names)}
    launcher = Launcher(training_threads=threads)
    try:
        for number in range(run.rounds):
            folder = run.folder / f"job-{number}"
            run_job(launcher, folder, spec)
            found["ours"].append(trained(folder))
            for kind in names:
                command = [str(python), "-P", str(_SCRIPT), kind, str(weights), str(work)]
                done = subprocess.run(
                    command, env=peers.variables(threads), capture_output=True, text=True, timeout=900
                )
                if done.returncode:
                    raise RuntimeError(f"{names[kind]}: {done.stderr.strip()[-600:]}")
                found[kind].append(read_bare(done.stdout, tokens))
        _second_job(run, launcher, spec)
    finally:
        launcher.close()
    for kind, name in names.items():
        _report(run, name, found["ours"], found[kind])
    run.note(
        f"All programs compute in {dtype}. Gradient checkpointing, the default of TRL, is turned off, because it takes "
        "longer."
    )


def _report(run: Run, name: str, ours: list[Trained], theirs: list[Trained]) -> None:
    rate = at_least(1.3) if name.startswith("TRL") else at_least(1.0)
    run.compare(
        "throughput, LoRA, short answers",
        [one.rate for one in ours],
        [one.rate for one in theirs],
        unit="tokens/s",
        peer=name,
        goal=rate,
    )
    apart = [
        max(abs(own - other) for own, other in zip(one.losses, peer.losses, strict=True))
        for one, peer in zip(ours, theirs, strict=True)
    ]
    run.value(f"largest difference in the loss of a step from {name}", apart, unit="nats", goal=at_most(1e-4))
    run.compare(
        "peak memory",
        [one.peak_megabytes for one in ours],
        [one.peak_megabytes for one in theirs],
        unit="MB",
        peer=name,
        goal=at_most(1.0),
    )


def _second_job(run: Run, launcher: Launcher, spec: TrainingSpec) -> None:
    """Measure the time from the request to the first step of a job that follows another job."""
    tiny = dataclasses.replace(spec, source=ModelSource(kind="tiny"), threads=1, epochs=1)
    run_job(launcher, run.folder / "first", tiny)
    seconds = []
    for number in range(run.rounds):
        folder = run.folder / f"second-{number}"
        start = time.time()
        run_job(launcher, folder, tiny)
        seconds.append(events(folder, "step")[0]["time"] - start)
    run.value(
        "second job: time from request to first step (stand-in with 0.7 million parameters)",
        seconds,
        unit="s",
        goal=at_most(1),
    )
