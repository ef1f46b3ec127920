"""Duration and number of requests of `runner plan` for many manifests in a large project.

    python -m benchmarks.plan_rate [--manifests 200] [--jobs 1000]

Prints one JSON object. The project has `--jobs` tuning jobs. The manifests are planned before and after they were
applied, in a separate process including the start of Python, with the emulator on the same machine. Requests are
counted in a separate run, behind a proxy.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import httpx

from runner.emulator.server import EmulatorServer
from runner.emulator.settings import EmulatorSettings
from tests.gcp.flaky import FlakyProxy
from tests.jobs.conftest import contract_bucket, set_quota
from tests.jobs.manifests.folder import MODEL, Manifests
from tests.provisioning import Provisioned, provision

LIMIT_SECONDS = 3.0


def main() -> int:
    """Measure and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifests", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="plan-rate-") as folder:
        result = measure(Path(folder), given.manifests, given.jobs, given.rounds)
    print(json.dumps(result, indent=2))
    return 0 if result["within"] else 1


def measure(folder: Path, manifests: int, jobs: int, rounds: int) -> dict[str, object]:
    """Return seconds and requests of plans before and after applying."""
    settings = EmulatorSettings(directory=folder / "emulator", stand_in="tiny")
    with EmulatorServer(settings) as server:
        project = provision(server.url, "plan-rate")
        set_quota(project, 0)  # no job runs meanwhile
        bucket = contract_bucket(project)
        _fill(project, jobs)
        work = folder / "jobs"
        work.mkdir()
        written = Manifests(work)
        for number in range(manifests):
            data = f"train-{number % 20}.jsonl"
            lines = [
                json.dumps({"prompt": f"What is {i} {number % 20}?", "completion": f"It is {i}."}) for i in range(100)
            ]
            (work / data).write_text("\n".join(lines) + "\n")
            written.add(f"job-{number:03}", data=f"{{train: {data}}}", spec="maxCost: 5")
        environment = {**_variables(project, bucket), "RUNNER_STATE_DIR": str(folder / "state")}
        new = _timed(work, environment, rounds, 2)
        calls_new = _counted(work, environment, server.url)
        _run(["apply", "-f", str(work), "--quota", "0", "--quiet"], environment, 0)
        kept = _timed(work, environment, rounds, 0)
        calls_kept = _counted(work, environment, server.url)
    return {
        "manifests": manifests,
        "jobs": jobs,
        "allNew": {"seconds": new[0], "cpuSeconds": new[1], "requests": sum(calls_new.values()), "byMethod": calls_new},
        "nothingNew": {
            "seconds": kept[0],
            "cpuSeconds": kept[1],
            "requests": sum(calls_kept.values()),
            "byMethod": calls_kept,
        },
        "limitSeconds": LIMIT_SECONDS,
        "within": max(new[0], kept[0]) <= LIMIT_SECONDS,
    }


def _fill(project: Provisioned, jobs: int) -> None:
    uri = f"gs://{project.datasets}/filler.jsonl"
    with httpx.Client(base_url=project.url, timeout=60) as client:
        content = b'{"prompt":"a","completion":"b"}\n' * 16
        client.post(
            f"/upload/storage/v1/b/{project.datasets}/o?uploadType=media&name=filler.jsonl", content=content
        ).raise_for_status()
        for number in range(jobs):
            body = {
                "baseModel": MODEL,
                "supervisedTuningSpec": {"trainingDatasetUri": uri, "tuningMode": "TUNING_MODE_PEFT_ADAPTER"},
                "outputUri": f"gs://{project.outputs}/filler/{number}",
            }
            client.post(f"/v1beta1/{project.parent}/tuningJobs", json=body).raise_for_status()


def _variables(project: Provisioned, bucket: str) -> dict[str, str]:
    return {
        **{key: value for key, value in os.environ.items() if not key.startswith(("RUNNER_", "GOOGLE_"))},
        "RUNNER_PROJECT": project.project,
        "RUNNER_PROJECT_NUMBER": project.number,
        "RUNNER_LOCATION": project.location,
        "RUNNER_DATASETS_BUCKET": project.datasets,
        "RUNNER_OUTPUTS_BUCKET": project.outputs,
        "RUNNER_CONTRACT_BUCKET": bucket,
        "RUNNER_VERTEX_URL": project.url,
        "RUNNER_STORAGE_URL": project.url,
    }


def _timed(work: Path, environment: dict[str, str], rounds: int, status: int) -> tuple[float, float]:
    """Return the minimum elapsed and CPU times of several runs in seconds; a busy machine has no effect on CPU time."""
    wall, cpu = float("inf"), float("inf")
    for _ in range(rounds):
        start, used = time.perf_counter(), _cpu()
        _run(["plan", "-f", str(work), "--format", "json"], environment, status)
        wall, cpu = min(wall, time.perf_counter() - start), min(cpu, _cpu() - used)
    return round(wall, 2), round(cpu, 2)


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _counted(work: Path, environment: dict[str, str], url: str) -> dict[str, int]:
    """Return the number of requests of each kind in a plan; names and numbers in paths are omitted."""
    with FlakyProxy(url) as proxy:
        through = {**environment, "RUNNER_VERTEX_URL": proxy.url, "RUNNER_STORAGE_URL": proxy.url}
        subprocess.run(
            [sys.executable, "-m", "runner", "plan", "-f", str(work)], env=through, capture_output=True, check=False
        )
        kinds = Counter(
            re.sub(r"\?.*|(?<=/b/)[^/]+|(?<=/o/).+|(?<=projects/)[^/:]+", "", line) for line in proxy.requests
        )
    return dict(sorted(kinds.items()))


def _run(arguments: list[str], environment: dict[str, str], status: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "runner", *arguments], env=environment, capture_output=True, check=False
    )
    if done.returncode != status:
        raise RuntimeError(f"runner {arguments[0]} ended with {done.returncode}: {done.stderr.decode()[-2000:]}")


if __name__ == "__main__":
    sys.exit(main())
