"""How long the infrastructure program takes to evaluate, next to what Pulumi's own packages take to import.

Fresh interpreters, CPU time, imports included:

- `import`: `python -c "import pulumi, pulumi_gcp"`, which every Pulumi program in Python pays;
- `minimal`: the whole program of a minimal stack on Pulumi's test monitor, no requests;
- `production`: that of two regions with keys, pipelines, alerts and the idle guard;
- `everywhere`: all parts in all regions of the service, each with a key.

Bytecode is written to a folder of its own first, as Python does where it may. `compute`, the largest part of
pulumi-gcp, is never loaded.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys

from benchmarks.goals.figures import Run, at_most

IMPORT = "import pulumi, pulumi_gcp"
EVALUATE = """
import sys
from tests.infra.evaluation import {name}, evaluate
assert evaluate({name}).outputs["environment"]
assert not [name for name in sys.modules if name.startswith("pulumi_gcp.compute.")]
"""
GOAL_SECONDS = 2.0
"""CPU of evaluating a stack, imports included."""


def measure(run: Run) -> None:
    """Evaluate by turns."""
    programs = {
        "import": IMPORT,
        "minimal": EVALUATE.format(name="MINIMAL"),
        "production": EVALUATE.format(name="PRODUCTION"),
        "everywhere": EVALUATE.format(name="EVERYWHERE"),
    }
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    variables["PYTHONPYCACHEPREFIX"] = str(run.folder / "bytecode")
    _cpu_seconds(programs["production"], variables)
    found = [{name: _cpu_seconds(code, variables) for name, code in programs.items()} for _ in range(run.rounds)]
    for name in ("minimal", "production", "everywhere"):
        run.value(
            f"evaluating the infrastructure program: {name}",
            [one[name] for one in found],
            unit="CPU s",
            goal=at_most(GOAL_SECONDS),
        )
    run.value("importing pulumi and pulumi_gcp alone", [one["import"] for one in found], unit="CPU s")


def _cpu_seconds(code: str, variables: dict[str, str]) -> float:
    """Return the CPU seconds of a fresh interpreter that runs `code`."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True, env=variables)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
