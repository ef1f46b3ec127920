"""Start times and memory of the emulator, its processes, the quickstart and the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from benchmarks import cli_start
from benchmarks.goals import infrastructure, machine
from benchmarks.goals.figures import Run, at_most
from benchmarks.goals.own_training import make_rows, run_job
from benchmarks.goals.serving_programs import ask, serving
from runner.emulator.engine.launcher import Launcher
from runner.emulator.engine.protocol import ModelSource, ServingSpec, TrainingSpec


def measure(run: Run) -> None:
    """Start everything."""
    _start_emulator(run)
    _run_engine(run)
    _quickstart(run)
    if run.size == "full":
        _commands(run)
        infrastructure.measure(run)


def _start_emulator(run: Run) -> None:
    seconds, idle, busy = [], [], []
    for number in range(run.rounds):
        ready = run.folder / f"ready-{number}"
        command = [sys.executable, "-m", "runner.emulator", "--directory", str(run.folder / f"state-{number}")]
        command += ["--port", "0", "--stand-in", "tiny", "--ready-file", str(ready)]
        start = time.perf_counter()
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            while not ready.exists() or not ready.read_text().strip():
                if process.poll() is not None:
                    raise RuntimeError(f"the emulator ended with {process.returncode}")
                time.sleep(0.005)
            url = ready.read_text().strip()
            _get(url, "/storage/v1/b?project=p")
            seconds.append(time.perf_counter() - start)
            idle.append(machine.memory(process.pid)[0])
            for _ in range(500):
                _get(url, "/storage/v1/b?project=p")
            busy.append(machine.memory(process.pid)[1])
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
    run.value("emulator: time from start to first answer", seconds, unit="s")
    run.value("emulator: idle memory", idle, unit="MB")
    run.value("emulator: peak memory after 500 requests", busy, unit="MB")


def _get(url: str, path: str) -> None:
    with urllib.request.urlopen(url + path, timeout=30) as answer:  # noqa: S310 - the emulator's own address
        answer.read()


def _run_engine(run: Run) -> None:
    """Measure the processes that train and serve the stand-in with 0.7 million parameters."""
    models = str(run.folder / "models")
    file = run.folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in make_rows(32, answer_words=4)))
    launcher = Launcher()
    try:
        spec = TrainingSpec(
            base_model="meta/llama3_1@llama-3.1-8b-instruct",
            source=ModelSource(kind="tiny"),
            mode="PEFT_ADAPTER",
            training_file=str(file),
            max_sequence_length=512,
            learning_rate=2e-4,
            export_last_checkpoint_only=True,
            cache_directory=models,
        )
        start = time.perf_counter()
        run_job(launcher, run.folder / "first-job", spec)
        seconds = time.perf_counter() - start
        run.value("first training job: time to completion, including the start of its fork server", [seconds], unit="s")
        facts = json.loads((run.folder / "first-job" / "output" / "final" / "run.json").read_text())
        run.value("training process: peak memory", [facts["peakMemoryMegabytes"]], unit="MB")
    finally:
        launcher.close()
    folder = run.folder / "idle-serving"
    serving_spec = ServingSpec(
        source=ModelSource(kind="tiny"), socket=str(folder / "model.sock"), name="tiny", cache_directory=models
    )
    start = time.perf_counter()
    with serving(serving_spec, folder) as program:
        seconds = time.perf_counter() - start
        run.value("serving process: time until ready, including the start of its fork server", [seconds], unit="s")
        run.value("serving process: idle memory", [machine.memory(program.process)[0]], unit="MB")
        for number in range(8):
            ask(program, [{"role": "user", "content": f"{number}. Hello"}], 16, sampled=False, text=False)
        run.value("serving process: peak memory after 8 answers", [program.peak_megabytes()], unit="MB")


def _quickstart(run: Run) -> None:
    command = [sys.executable, "-m", "runner", "--json", "quickstart", "--fast", "--questions", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, cwd=run.folder, env=_own(run.folder))
    if done.returncode:
        raise RuntimeError(f"runner quickstart: {done.stderr.strip()[-600:]}")
    for name, seconds in json.loads(done.stdout)["seconds"].items():
        run.value(f"`runner quickstart --fast`: {name}", [seconds], unit="s")


def _own(folder: Path) -> dict[str, str]:
    """Return environment variables that hide this user's contexts from commands."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RUNNER_", "GOOGLE_"))}
    return {**kept, "XDG_CONFIG_HOME": str(folder / "config"), "XDG_STATE_HOME": str(folder / "state")}


def _commands(run: Run) -> None:
    looked = cli_start.look(run.rounds)
    titles = {"emulator": ("against the emulator", cli_start.LOOKING_RATIO_LIMIT)}
    titles["googleCredentials"] = ("with a service account key", cli_start.GOOGLE_RATIO_LIMIT)
    for key, (title, limit) in titles.items():
        ratios = looked[key]
        assert isinstance(ratios, dict)
        for line, ratio in ratios.items():
            name = f"`runner {line}` {title}: CPU time relative to `python -c pass`"
            run.value(name, [ratio], unit="x", goal=at_most(limit))
