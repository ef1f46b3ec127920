"""Check the training and serving processes on a GPU, and measure their speed and memory.

    python -m benchmarks.gpu                     a Llama model of 1B shape with random weights, and the tiny stand-in
    python -m benchmarks.gpu --weights FOLDER    also a small real model, such as the converted SmolLM2
    python -m benchmarks.gpu --size tiny         everything with tiny shapes, on any device
    python -m benchmarks.gpu --pack FOLDER       collect missing packages in a folder, for the PYTHONPATH

Needs PyTorch, transformers and peft, no network, and less than ten minutes. Each line is a check or a measurement; the
exit code is 1 if a check failed. Losses on the GPU must be within 2% of those on the CPU: the products are bfloat16 on
both, and are summed in another order.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.goals import gpu_models, own_training
from benchmarks.goals.own_training import Trained
from benchmarks.goals.serving_programs import ask, serving
from runner.emulator.engine.launcher import Launcher
from runner.emulator.engine.protocol import ModelSource, TrainingSpec, TuningMode

LOSS_TOLERANCE = 0.02
"""Maximum relative difference of a loss between the GPU and the CPU, and between this project and the plain loop."""
_ROOT = Path(__file__).parents[1]
_BARE = _ROOT / "benchmarks" / "goals" / "bare_training.py"
_BATCHING = _ROOT / "benchmarks" / "goals" / "bare_batching.py"
_MODES: tuple[TuningMode, ...] = ("PEFT_ADAPTER", "FULL")
_THREADS = max(1, (os.cpu_count() or 2) // 2)
_LACKING = (
    "ahocorasick-rs", "google-crc32c", "jinja2", "llguidance", "msgspec", "pillow", "platformdirs", "pydantic",
    "starlette", "uvicorn", "xxhash", "httpx", "pyyaml",
)  # fmt: skip


@dataclass(slots=True)
class Session:
    """The configuration and the results of a run."""

    folder: Path
    device: str
    tiny: bool
    models: dict[str, Path]
    launcher: Launcher
    """Starts all jobs, so that PyTorch is loaded once."""
    found: dict[str, Any] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)

    def check(self, name: str, passed: bool, said: str) -> None:
        """Record a check."""
        self.found[name] = {"passed": passed, "said": said}
        if not passed:
            self.failed.append(name)
        print(f"{'ok    ' if passed else 'FAILED'} {name}: {said}", flush=True)

    def figure(self, name: str, value: float, unit: str) -> None:
        """Record a figure."""
        self.found[name] = {"value": value, "unit": unit}
        print(f"       {name}: {value:,.4g} {unit}", flush=True)

    def spec(self, model: str, mode: TuningMode, steps: int, **fields: Any) -> TrainingSpec:
        """Return a job on one of the models."""
        batch = 2 if self.tiny else 8
        file = self.folder / f"train-{steps}.jsonl"
        if not file.exists():
            rows = own_training.make_rows(steps * batch, answer_words=6 if self.tiny else 60)
            file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        values: dict[str, Any] = {
            "base_model": "meta/llama3_1@llama-3.1-8b-instruct",
            "source": ModelSource(kind="custom", directory=str(self.models[model])),
            "mode": mode,
            "training_file": str(file),
            "max_sequence_length": 1024,
            "learning_rate": 1e-4 if mode == "PEFT_ADAPTER" else 1e-5,
            "batch_size": batch,
            "adapter_size": 8,
            "export_last_checkpoint_only": True,
            "threads": _THREADS,
            "cache_directory": str(self.folder / "models"),
        }
        return TrainingSpec(**{**values, **fields})


def main() -> int:
    """Run everything, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("full", "tiny"), default="full")
    parser.add_argument("--weights", type=Path, help="folder of a small real model")
    parser.add_argument("--pack", type=Path, help="only make this folder")
    parser.add_argument("--output", type=Path, help="write a JSON record to this file")
    options = parser.parse_args()
    if options.pack:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(options.pack), *_LACKING]
        return subprocess.run(command).returncode
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    os.environ["RUNNER_SERVING_ENGINE"] = "torch"  # vLLM may be installed, too
    print(f"PyTorch {torch.__version__}, {torch.cuda.get_device_name() if device == 'cuda' else 'no GPU: on the CPU'}")
    if device == "cpu" and options.size == "full":
        print("there is no GPU: only --size tiny is possible", file=sys.stderr)
        return 2
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="gpu-") as name, _launcher(_THREADS) as launcher:
        folder = Path(name)
        models = {"shape": gpu_models.random_llama(folder / "shape", tiny=options.size == "tiny")}
        if options.weights:
            models["real"] = options.weights
        session = Session(folder, device, options.size == "tiny", models, launcher)
        for part in (train, match_cpu, resume, run_out_of_memory, serve, check_catalogue):
            try:
                part(session)
            except Exception as error:
                traceback.print_exc()
                session.check(part.__name__, False, f"{type(error).__name__}: {error}")
    minutes = (time.monotonic() - started) / 60
    print(f"{minutes:.1f} minutes; {len(session.failed)} checks failed {session.failed or ''}")
    if options.output:
        options.output.write_text(json.dumps({"device": device, "minutes": minutes, "found": session.found}, indent=1))
    return int(bool(session.failed))


def train(session: Session) -> None:
    """Train with both modes, and a plain loop on the same batches."""
    steps = 3 if session.tiny else 20
    for model in session.models:
        for mode in _MODES:
            name, spec = f"{model}, {mode}", session.spec(model, mode, steps)
            ours = _job(session, spec, f"{model}-{mode}")
            facts = _facts(session, f"{model}-{mode}")
            expected = "bfloat16" if session.device == "cuda" and mode == "PEFT_ADAPTER" else facts["dtype"]
            right = facts["device"].startswith(session.device) and facts["dtype"] == expected
            session.check(f"{name}: device", right, f"{facts['device']}, weights in {facts['dtype']}")
            theirs = _bare(session, spec, facts)
            session.figure(f"{name}: tokens a second", ours.rate, "/s")
            session.figure(f"{name}: to the bare loop", ours.rate / theirs.rate, "x")
            if session.device == "cuda":
                session.figure(f"{name}: memory to the bare loop", ours.device_megabytes / theirs.device_megabytes, "x")
                session.figure(f"{name}: memory", ours.device_megabytes, "MB")
            _hold(session, f"{name}: losses of the bare loop", ours.losses, theirs.losses, LOSS_TOLERANCE)


def match_cpu(session: Session) -> None:
    """Compare the losses with those of the same job on the CPU."""
    model = "real" if "real" in session.models else "shape"
    steps = 3
    for mode in _MODES[:1] if session.device == "cpu" else _MODES:  # on a CPU, it only shows that this part runs
        spec = session.spec(model, mode, steps)
        here = _job(session, spec, f"here-{mode}")
        there = _job(session, spec, f"cpu-{mode}", without_gpu=session.device != "cpu")
        facts = _facts(session, f"cpu-{mode}")
        assert facts["device"] == "cpu"
        _hold(session, f"{model}, {mode}: losses of the CPU", here.losses, there.losses, LOSS_TOLERANCE)


def resume(session: Session) -> None:
    """Kill a job in its second epoch, start it again, and compare its losses with those of an uninterrupted job."""
    spec = session.spec("shape", "FULL", 4, epochs=2)
    whole = _job(session, spec, "whole")
    folder = session.folder / "killed"
    own_training.run_job(session.launcher, folder, spec, kill_after=5)
    killed = not (folder / "output" / "final").exists()
    own_training.run_job(session.launcher, folder, spec)
    resumed = own_training.events(folder, "resumed")
    session.check("resume: killed and resumed", killed and bool(resumed), f"at step {[one['step'] for one in resumed]}")
    last = {one["step"]: one["loss"] for one in own_training.events(folder, "step")}
    tolerance = 1e-6 if session.device == "cpu" else 1e-3
    _hold(session, "resume: losses of the whole job", list(last.values()), whole.losses, tolerance)


def run_out_of_memory(session: Session) -> None:
    """Run a job and a server with too little memory: both must report it, with advice."""
    spec = session.spec("shape", "FULL", 3)
    folder = session.folder / "starved"
    folder.mkdir()
    spec.write(folder / "job.json")
    code = gpu_models.starved(session.device, "training", folder)
    failed = own_training.events(folder, "failed")
    said = f"exit code {code}, {failed[0]['status']}: {failed[0]['message']}" if failed else f"exit code {code}"
    good = bool(failed) and failed[0]["status"] == "RESOURCE_EXHAUSTED" and "small" in failed[0]["message"]
    session.check("out of memory: training", good, said)
    folder = session.folder / "starved-serving"
    folder.mkdir()
    gpu_models.serving_spec(session.models["shape"], folder).write(folder / "serving.json")
    code = gpu_models.starved(session.device, "serving", folder)
    file = folder / "failed.json"
    body = json.loads(file.read_text()) if file.exists() else {}
    said = f"exit code {code}, {body.get('status')}: {body.get('message')}"
    session.check("out of memory: serving", body.get("status") == "RESOURCE_EXHAUSTED", said)


def serve(session: Session) -> None:
    """Compare serving with transformers' continuous batching, with the same prompts and lengths."""
    clients, tokens = (4, 8) if session.tiny else (64, 64)
    for model, weights in session.models.items():
        questions = [
            [{"role": "user", "content": row["messages"][0]["content"]}]
            for row in own_training.make_rows(clients * 3, answer_words=1)
        ]
        rates: dict[str, list[float]] = {"ours": [], "theirs": []}
        firsts: list[float] = []
        spec = gpu_models.serving_spec(weights, session.folder / f"serving-{model}")
        with serving(spec, session.folder / f"serving-{model}") as program:
            for number in range(3):
                batch = questions[number * clients : (number + 1) * clients]
                start = time.perf_counter()
                with ThreadPoolExecutor(clients) as pool:
                    firsts += pool.map(lambda one: ask(program, one, tokens, sampled=False, text=False), batch)
                rates["ours"].append(clients * tokens / (time.perf_counter() - start))
        work = session.folder / "batching.json"
        work.write_text(json.dumps({"questions": questions, "clients": clients, "tokens": tokens}))
        done = subprocess.run(
            [sys.executable, "-P", str(_BATCHING), str(weights), str(work), session.device],
            capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        session.figure(f"{model}: serving, tokens a second", statistics.median(rates["ours"]), "/s")
        session.figure(f"{model}: serving, time to the first text", statistics.median(firsts), "s")
        if done.returncode:
            session.check(f"{model}: continuous batching of transformers", False, done.stderr.strip()[-400:])
            continue
        rates["theirs"] = json.loads(done.stdout.strip().splitlines()[-1])["rates"]
        times = statistics.median(rates["ours"]) / statistics.median(rates["theirs"])
        session.figure(f"{model}: serving, to transformers' continuous batching in its process", times, "x")


def check_catalogue(session: Session) -> None:
    """Check the catalog's machines, with one or several GPUs, against those that the API accepts and refuses."""
    from runner.catalog import machines
    from runner.emulator.aiplatform.machines import complete
    from runner.emulator.errors import ApiError

    wrong, count = [], 0
    for machine in machines():
        spec = {
            "machineType": machine.machine_type,
            "acceleratorType": machine.accelerator_type,
            "acceleratorCount": machine.accelerator_count,
        }
        count += 1
        for number, fits in ((machine.accelerator_count, True), (machine.accelerator_count * 2 + 1, False)):
            try:
                complete({"machineSpec": {**spec, "acceleratorCount": number}}, None)
                taken = True
            except ApiError:
                taken = False
            if taken is not fits:
                wrong.append(f"{spec} with {number}")
    session.check("catalog: machines", not wrong and count > 1, f"{count} machines; wrong: {wrong or 'none'}")


def _job(session: Session, spec: TrainingSpec, name: str, *, without_gpu: bool = False) -> Trained:
    if without_gpu:
        before = os.environ.pop("CUDA_VISIBLE_DEVICES", None)
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        try:
            with _launcher(_THREADS) as launcher:
                own_training.run_job(launcher, session.folder / name, spec)
        finally:
            del os.environ["CUDA_VISIBLE_DEVICES"]
            os.environ.update({} if before is None else {"CUDA_VISIBLE_DEVICES": before})
    else:
        own_training.run_job(session.launcher, session.folder / name, spec)
    return own_training.trained(session.folder / name)


class _launcher(Launcher):  # noqa: N801
    """A launcher for a context."""

    def __enter__(self) -> Launcher:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def _facts(session: Session, name: str) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((session.folder / name / "output" / "final" / "run.json").read_text())
    return facts


def _bare(session: Session, spec: TrainingSpec, facts: dict[str, Any]) -> Trained:
    work = session.folder / "work.json"
    directory = str(spec.source.directory)
    narrow = "bfloat16" if session.device == "cuda" else facts["dtype"]
    once = dataclasses.replace(spec, source=dataclasses.replace(spec.source))
    tokens = own_training.write_work(once, directory, work, device=session.device, dtype=narrow)
    command = [sys.executable, "-P", str(_BARE), "plain", directory, str(work)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    if done.returncode:
        raise RuntimeError(done.stderr.strip()[-600:])
    return own_training.read_bare(done.stdout, tokens)


def _hold(session: Session, name: str, ours: list[float], theirs: list[float], tolerance: float) -> None:
    apart = max(abs(one - other) / max(other, 1e-9) for one, other in zip(ours, theirs, strict=True))
    session.check(name, apart <= tolerance, f"{apart:.2g} apart at most, {tolerance:g} allowed, over {len(ours)} steps")


if __name__ == "__main__":
    sys.exit(main())
