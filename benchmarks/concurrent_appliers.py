"""Many concurrent runners in several rounds: each manifest and each specification must become one job.

    python -m benchmarks.concurrent_appliers [--runners 16] [--rounds 200]

Every runner is a process with its own state directory, like another machine. In odd rounds, all apply the same new
manifest; in even rounds, all submit the same new specification at the same time. Prints one JSON object; the exit code
is 1 unless each round created one job. Jobs wait for quota, so none is trained.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from runner.emulator.server import EmulatorServer
from runner.emulator.settings import EmulatorSettings
from runner.environment import Environment
from runner.gcp.session import Session
from runner.jobs.specification import TuningJobSpec
from runner.jobs.submitting.submission import submit_once
from tests.jobs.conftest import contract_bucket, set_quota
from tests.jobs.manifests import applying_process
from tests.jobs.manifests.folder import MODEL, Manifests, jobs_of
from tests.projects import environment_of, upload_dataset
from tests.provisioning import provision

PER_PROJECT = 20
"""Number of rounds in one project, so that lists stay short."""
PATIENCE_SECONDS = 300.0


def main() -> int:
    """Run the rounds and print the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runners", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=200)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="appliers-") as folder:
        result = measure(Path(folder), given.runners, given.rounds)
    print(json.dumps(result, indent=2))
    return 0 if result["roundsWithOneJob"] == given.rounds and not result["failures"] else 1


def measure(folder: Path, runners: int, rounds: int) -> dict[str, Any]:
    """Return the number of jobs from each round, and the messages of the runners."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.jobs.manifests.applying_process", "tests.jobs.conftest"])  # once
    barrier, answers = context.Barrier(runners + 1), context.Queue()
    orders: list[Queue[Any]] = [context.Queue() for _ in range(runners)]
    processes = [
        context.Process(target=_runner, args=(str(folder / f"machine-{i}"), order, barrier, answers), daemon=True)
        for i, order in enumerate(orders)
    ]
    start = time.monotonic()
    settings = EmulatorSettings(directory=folder / "emulator", stand_in="tiny")
    made: list[int] = []
    said: Counter[str] = Counter()
    failures: list[str] = []
    with EmulatorServer(settings) as server:
        for process in processes:
            process.start()
        for number in range(rounds):
            if number % PER_PROJECT == 0:
                project = provision(server.url, f"appliers-{number}")
                set_quota(project, 0)
                environment = dataclasses.replace(environment_of(project), contract_bucket=contract_bucket(project))
                with Session(environment) as session:
                    data = upload_dataset(session)
                before = 0
            work: Path | TuningJobSpec
            if number % 2:
                work = TuningJobSpec(base_model=MODEL, training_dataset=data, learning_rate=(1 + number) * 1e-6)
            else:
                work = folder / f"jobs-{number}"
                work.mkdir()
                (work / "train.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
                Manifests(work).add(f"round-{number}")
            for order in orders:
                order.put((environment, work))
            barrier.wait(PATIENCE_SECONDS)
            for _ in processes:
                what, problem = answers.get(timeout=PATIENCE_SECONDS)
                said[what] += 1
                failures += [f"round {number}: {problem}"] if problem else []
            with Session(environment) as session:
                now = len(jobs_of(session))
            made.append(now - before)
            before = now
        for order in orders:
            order.put(None)
        for process in processes:
            process.join(60)
    return {
        "runners": runners,
        "rounds": rounds,
        "roundsWithOneJob": sum(count == 1 for count in made),
        "jobs": sum(made),
        "said": dict(said.most_common()),
        "failures": failures[:20],
        "seconds": round(time.monotonic() - start),
    }


def _runner(state: str, orders: Queue[Any], barrier: Barrier, answers: Queue[Any]) -> None:
    os.environ["RUNNER_STATE_DIR"] = state
    while (order := orders.get()) is not None:
        environment, work = order
        barrier.wait(PATIENCE_SECONDS)
        try:
            answers.put((_done(environment, work), ""))
        except Exception as error:
            answers.put(("failed", f"{type(error).__name__}: {error}"))


def _done(environment: Environment, work: Path | TuningJobSpec) -> str:
    """Apply a folder or submit a specification; return the result."""
    with Session(environment) as session:
        if isinstance(work, TuningJobSpec):
            return "submit created" if submit_once(session, work).created else "submit found"
        name = work.name.replace("jobs-", "round-")
        steps = [step.what for step in applying_process.apply(session, work) if step.name == name]
    return f"apply {steps[0] if steps else 'found'}"


if __name__ == "__main__":
    sys.exit(main())
