"""The CPU time to evaluate the Pulumi program, and to import Pulumi's own packages for comparison.

Each measurement starts a new interpreter and includes the imports:

- `import`: `python -c "import pulumi, pulumi_gcp"`, which every Pulumi program in Python needs
- `minimal`: the program for a minimal stack on Pulumi's test monitor, without requests
- `production`: the program for two regions with keys, pipelines, alerts and the idle guard
- `everywhere`: the program for a stack with every part in every region of the service, and a key for each region

A first run writes the bytecode to a temporary folder. The program never loads `compute`, the largest part of
pulumi-gcp.
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
"""Maximum CPU seconds to evaluate a stack, including imports."""


def measure(run: Run) -> None:
    """Evaluate all stacks alternately."""
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
    stacks = {
        "minimal": "minimal stack",
        "production": "production stack",
        "everywhere": "stack with every part in every region",
    }
    for name, stack in stacks.items():
        run.value(
            f"evaluating the Pulumi program: {stack}",
            [one[name] for one in found],
            unit="CPU s",
            goal=at_most(GOAL_SECONDS),
        )
    run.value("importing only pulumi and pulumi_gcp", [one["import"] for one in found], unit="CPU s")


def _cpu_seconds(code: str, variables: dict[str, str]) -> float:
    """Return the CPU seconds of a new interpreter that runs `code`."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True, env=variables)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
