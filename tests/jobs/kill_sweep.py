"""Kill `apply` with SIGKILL at its requests, before and after each takes effect, and count jobs.

    python -m tests.jobs.kill_sweep [--rounds 6]

Prints one JSON object: points, jobs, duplicates and lost jobs, and the points at which a process survived its kill.
The tests run the writes of one round; a round has every request, reads included.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import signal
import sys
import tempfile
import threading
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from runner.emulator.server import EmulatorServer
from runner.emulator.settings import EmulatorSettings
from runner.gcp.session import Session
from runner.jobs import claiming
from tests.jobs import applying_process
from tests.jobs.manifests import Manifests, names_of
from tests.runner.flaky import Fault, FlakyProxy

Point = tuple[str, int]
"""Method, and which request with it."""
KINDS = ("lose request", "lose answer")


def requests_of_an_apply(through_proxy: Session, proxy: FlakyProxy, manifests: Manifests) -> Counter[str]:
    """Apply once, undisturbed, and return how many requests that takes, by method."""
    applying_process.apply(through_proxy, manifests.folder)
    return Counter(line.split()[0] for line in proxy.requests)


def killed_at(session: Session, proxy: FlakyProxy, manifests: Manifests, point: Point, kind: str) -> bool:
    """Run an apply that is killed by SIGKILL at a request, before or after that takes effect; tell whether it was."""
    started: list[ForkServerProcess] = []
    ready = threading.Event()

    def kill() -> None:
        ready.wait(60)
        started[0].kill()  # not joined here: two threads that read one exit status lose it

    proxy.faults[:] = [Fault(point[0], ".", kind, skip=point[1], before=kill)]
    started.append(applying_process.start(session.environment, manifests.folder))
    ready.set()
    started[0].join(180)
    proxy.faults.clear()
    return started[0].exitcode == -signal.SIGKILL


@dataclass(slots=True)
class Sweep:
    """What a sweep found."""

    kills: int = 0
    survived: list[str] = field(default_factory=list)
    """Points that an apply passed without being killed: it was over before."""
    wanted: list[str] = field(default_factory=list)
    """Names of the manifests."""
    jobs: Counter[str] = field(default_factory=Counter)
    """Jobs by name of their manifest."""

    @property
    def duplicates(self) -> list[str]:
        """Return the manifests with more than one job."""
        return sorted(name for name, count in self.jobs.items() if count > 1)

    @property
    def lost(self) -> list[str]:
        """Return the manifests without a job."""
        return sorted(name for name in self.wanted if not self.jobs[name])


def sweep(
    session: Session,
    through_proxy: Session,
    proxy: FlakyProxy,
    manifests: Manifests,
    points: list[Point],
    series: str = "k",
) -> Sweep:
    """Kill an apply of new manifests at each point, before and after it takes effect, apply again, and count."""
    found = Sweep()
    for point in points:
        for kind in KINDS:
            where = f"{series}-{point[0].lower()}-{point[1]}-{kind[5:7]}"
            for old in manifests.folder.glob("*.yaml"):
                old.unlink()
            with (manifests.folder / "train.jsonl").open("a") as file:  # new data, so that it is uploaded too
                file.write(json.dumps({"prompt": f"Which point is {where}?", "completion": "This one."}) + "\n")
            for part in ("a", "b"):
                manifests.add(f"{where}-{part}")
                found.wanted.append(f"{where}-{part}")
            if killed_at(through_proxy, proxy, manifests, point, kind):
                found.kills += 1
            else:
                found.survived.append(where)
            applying_process.apply(session, manifests.folder)
    found.jobs = Counter(name for name in names_of(session) if name in set(found.wanted))
    return found


def main() -> int:
    """Sweep every request of an apply, several times over, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6)
    given = parser.parse_args()
    # The processes are known to be dead, so their claims need not run out; below zero because the service tells its
    # time in whole seconds.
    claiming.LEASE_SECONDS = -5.0
    with tempfile.TemporaryDirectory(prefix="kill-sweep-") as folder:
        os.environ["RUNNER_STATE_DIR"] = f"{folder}/state"
        result = _rounds(Path(folder), given.rounds)
    print(json.dumps(result, indent=2))
    return 1 if result["duplicates"] or result["lost"] else 0


def _rounds(folder: Path, rounds: int) -> dict[str, object]:
    from tests.jobs.conftest import contract_bucket, set_quota
    from tests.provisioning import provision
    from tests.runner.conftest import environment_of

    total, requests = Sweep(), Counter[str]()
    settings = EmulatorSettings(directory=folder / "emulator", stand_in="tiny")
    with EmulatorServer(settings) as server, FlakyProxy(server.url) as proxy:
        for number in range(rounds):
            project = provision(server.url, f"sweep-{number}")
            set_quota(project, 0)  # no job runs meanwhile
            environment = dataclasses.replace(environment_of(project), contract_bucket=contract_bucket(project))
            place = folder / f"jobs-{number}"
            place.mkdir()
            (place / "train.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
            manifests = Manifests(place)
            manifests.add("first-a")
            manifests.add("first-b")
            through = dataclasses.replace(environment, vertex_url=proxy.url, storage_url=proxy.url)
            proxy.requests.clear()
            with Session(environment) as session, Session(through) as through_proxy:
                requests = requests_of_an_apply(through_proxy, proxy, manifests)
                points = [(method, index) for method, count in sorted(requests.items()) for index in range(count)]
                found = sweep(session, through_proxy, proxy, manifests, points)
            total.kills += found.kills
            total.survived += found.survived
            total.wanted += [f"{number}: {name}" for name in found.wanted]
            total.jobs.update({f"{number}: {name}": count for name, count in found.jobs.items()})
    return {
        "rounds": rounds,
        "requests": dict(requests),
        "points": total.kills + len(total.survived),
        "kills": total.kills,
        "manifests": len(total.wanted),
        "jobs": sum(total.jobs.values()),
        "duplicates": total.duplicates,
        "lost": total.lost,
        "survived": total.survived,
    }


if __name__ == "__main__":
    sys.exit(main())
