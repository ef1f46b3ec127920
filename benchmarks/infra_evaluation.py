"""How long the infrastructure program takes to evaluate, next to what Pulumi's own packages take to import.

    python -m benchmarks.infra_evaluation [--repeat 5]

Fresh interpreters, CPU and wall time, the best of several, as other work on the machine can only add to both:

- `import`: `python -c "import pulumi, pulumi_gcp"`, which every Pulumi program in Python pays;
- `minimal`: the whole program of a minimal stack on Pulumi's test monitor, no requests;
- `production`: that of two regions with keys, pipelines, alerts and the idle guard;
- `everywhere`: all parts in all regions of the service, each with a key.

Bytecode is written to a folder of its own first, as Python does where it may; `--no-bytecode` measures without it,
which is what a container with PYTHONDONTWRITEBYTECODE pays. `compute`, the largest part of pulumi-gcp, is never loaded.

Then, in one process, the application to an emulator: `first` makes everything, `again` finds nothing to do.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

IMPORT = "import pulumi, pulumi_gcp"
EVALUATE = """
import sys
from tests.infra.evaluation import {name}, evaluate
assert evaluate({name}).outputs["environment"]
assert not [name for name in sys.modules if name.startswith("pulumi_gcp.compute.")]
"""
GOAL_SECONDS = 2.0
"""CPU of evaluating a stack, imports included."""


def measure(code: str, repeat: int, variables: dict[str, str]) -> tuple[float, float]:
    """Return the least wall and CPU seconds of a fresh interpreter that runs `code`."""
    walls, cpus = [], []
    for _ in range(repeat):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, env=variables)
        walls.append(time.perf_counter() - start)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpus.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(walls), min(cpus)


def measure_application() -> tuple[int, float, float]:
    """Return how many resources there are, and the wall seconds of the first and the second application."""
    from infra.embedded import apply
    from runner.emulator.server import EmulatorServer
    from runner.emulator.settings import EmulatorSettings

    with tempfile.TemporaryDirectory() as directory:
        settings = EmulatorSettings(directory=Path(directory) / "emulator", stand_in="tiny")
        with EmulatorServer(settings) as server:
            state = Path(directory) / "state.json"
            # The first one of all also imports; that is measured above.
            apply(server.url, project="warm-up", state=Path(directory) / "warm-up.json")
            start = time.perf_counter()
            made = apply(server.url, state=state)
            first = time.perf_counter() - start
            start = time.perf_counter()
            again = apply(server.url, state=state)
            second = time.perf_counter() - start
    assert len(again.unchanged) == len(made.created)
    return len(made.created), first, second


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--no-bytecode", action="store_true")
    parser.add_argument("--no-application", action="store_true", help="leave the emulator out")
    options = parser.parse_args()
    programs = {
        "import": IMPORT,
        "minimal": EVALUATE.format(name="MINIMAL"),
        "production": EVALUATE.format(name="PRODUCTION"),
        "everywhere": EVALUATE.format(name="EVERYWHERE"),
    }
    with tempfile.TemporaryDirectory() as folder:
        variables = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        variables |= {
            "PYTHONPYCACHEPREFIX": folder,
            **({"PYTHONDONTWRITEBYTECODE": "1"} if options.no_bytecode else {}),
        }
        if not options.no_bytecode:
            measure(programs["production"], 1, variables)
        rows = {name: measure(code, options.repeat, variables) for name, code in programs.items()}
    base = rows["import"][1]
    print(f"{'':12} {'wall s':>7} {'CPU s':>7} {'x import (CPU)':>15}")
    for name, (wall, cpu) in rows.items():
        print(f"{name:12} {wall:7.2f} {cpu:7.2f} {cpu / base:15.1f}")
    for name in ("production", "everywhere"):
        verdict = "within" if rows[name][1] < GOAL_SECONDS else "over"
        print(f"{name}: {verdict} the goal of {GOAL_SECONDS:g} s CPU")
    if options.no_application:
        return
    count, first, second = measure_application()
    print(f"\napplied to an emulator, {count} resources: first {first:.2f} s, again {second:.2f} s")


if __name__ == "__main__":
    main()
