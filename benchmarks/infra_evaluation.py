"""How long the infrastructure program takes to evaluate, next to what Pulumi's own packages take to import.

    python -m benchmarks.infra_evaluation [--repeat 5]

Fresh interpreters, CPU and wall time, the best of several, as other work on the machine can only add to both:

- `import`: `python -c "import pulumi, pulumi_gcp"`, which every Pulumi program in Python pays;
- `import used`: the same with the parts of pulumi-gcp that the program touches (they load on first use);
- `evaluate`: the whole program on Pulumi's test monitor, no requests.

Then, in one process, the application to an emulator: `first` makes everything, `again` finds nothing to do.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

IMPORT = "import pulumi, pulumi_gcp"
IMPORT_USED = """
import pulumi
from pulumi_gcp import iam, organizations, projects, serviceaccount, storage, vertex
[iam.WorkloadIdentityPool, organizations.get_project, projects.Service, serviceaccount.Account, storage.Bucket,
 vertex.AiEndpoint]
"""
EVALUATE = "from tests.infra.evaluation import MINIMAL, evaluate; assert evaluate(MINIMAL).outputs['environment']"


def measure(code: str, repeat: int) -> tuple[float, float]:
    """Return the least wall and CPU seconds of a fresh interpreter that runs `code`."""
    walls, cpus = [], []
    for _ in range(repeat):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
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
    repeat = parser.parse_args().repeat
    rows = {name: measure(code, repeat) for name, code in (("import", IMPORT), ("import used", IMPORT_USED))}
    rows["evaluate"] = measure(EVALUATE, repeat)
    base = rows["import"][1]
    print(f"{'':12} {'wall s':>7} {'CPU s':>7} {'x import (CPU)':>15}")
    for name, (wall, cpu) in rows.items():
        print(f"{name:12} {wall:7.2f} {cpu:7.2f} {cpu / base:15.1f}")
    count, first, second = measure_application()
    print(f"\napplied to an emulator, {count} resources: first {first:.2f} s, again {second:.2f} s")


if __name__ == "__main__":
    main()
