"""Kill command lines at their system calls, run them again, and count what there is then.

Each flow is a command line that is killed at one point and run again to its end. Nothing may be there twice or be lost.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from runner.emulator.server import EmulatorServer
from runner.emulator.settings import EmulatorSettings
from tests.jobs.manifests.folder import MODEL, Manifests
from tests.jobs.submitting.killable import Killable, Run
from tests.loopback import NO_TLS
from tests.provisioning import Provisioned, provision

FLOWS = ("submit", "upload", "resume", "takeover", "apply", "cancel")
PER_PROJECT = 20
"""Kills in one project, so that lists stay short."""
DEAD = {
    "runner.jobs.submitting.claims.SETTLE_SECONDS": -5.0,
    "runner.jobs.outputs.ownership.LEASE_SECONDS": -5.0,
}
"""The process is known to be dead and the service to be at rest: what it may have sent need not be waited for. Below
zero because the service tells its time in whole seconds."""


@dataclass(slots=True)
class Found:
    """What the sweep of one flow found."""

    flow: str
    points_of_a_run: int = 0
    """System calls of one undisturbed run."""
    kills: int = 0
    ended_before: int = 0
    """Runs that were over before their point: a run is not always equally long."""
    duplicates: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    """Second runs that ended with an error."""
    where: Counter[str] = field(default_factory=Counter)
    """System calls at which processes were killed."""

    def to_json(self) -> dict[str, object]:
        """Return the JSON form."""
        return {**dataclasses.asdict(self), "where": dict(self.where.most_common())}


class Sweep:
    """One emulator, one process for command lines, and a project for every few kills."""

    def __init__(self, server: EmulatorServer, killable: Killable, folder: Path) -> None:
        self.server = server
        self.killable = killable
        self.folder = folder
        self.http = httpx.Client(base_url=server.url, timeout=60, verify=NO_TLS)
        self._numbers = itertools.count(1)
        self._project: Provisioned
        self._left = 0
        self._after = ""
        self.variables: dict[str, str] = {}

    def flow(self, name: str, points: int = 0, *, plant: str = "", after: str = "", at: Sequence[int] = ()) -> Found:
        """Kill a flow at so many of its points, evenly spread, and return what was found.

        Args:
            name: of FLOWS.
            points: how many kills.
            plant: see `Killable.run`.
            after: counts points from the first call whose name contains this.
            at: these points instead of evenly spread ones.
        """
        found = Found(name)
        ask: Callable[[Found, int | None, str], list[str]] = getattr(self, f"_{name}")
        self._left, self._after = 0, after
        found.points_of_a_run = calls = len(ask(Found(name), None, plant))
        # More kills than points repeat points: what the service has done by then is not always the same.
        for number in at or [index * calls // points for index in range(points)]:
            ask(found, number, plant)
        return found

    def _submit(self, found: Found, kill_at: int | None, plant: str) -> list[str]:
        self._in_project()
        command = self._submission(next(self._numbers))
        first = self._run(found, command, kill_at, plant)
        self._again(found, command, plant)
        self._count(found, {self._rate(command): 1})
        return first.points

    def _resume(self, found: Found, kill_at: int | None, plant: str) -> list[str]:
        """Kill the second run of a submission whose first one was killed with its create carried out, unanswered."""
        # The call that sends the request, and the one that would read the answer.
        return self._second(found, kill_at, plant, after_post=1)

    def _takeover(self, found: Found, kill_at: int | None, plant: str) -> list[str]:
        """Kill the second run of a submission whose first one was killed before it sent its create."""
        return self._second(found, kill_at, plant, after_post=0)

    def _second(self, found: Found, kill_at: int | None, plant: str, *, after_post: int) -> list[str]:
        self._in_project()
        command = self._submission(next(self._numbers))
        first = self.killable.run(
            *command, variables=self.variables, kill_at=after_post, after="/tuningJobs HTTP/1.1", plant=plant
        )
        assert first.killed
        self._settle()
        second = self._run(found, command, kill_at, plant, DEAD)
        self._again(found, command, plant)
        self._count(found, {self._rate(command): 1})
        return second.points

    def _upload(self, found: Found, kill_at: int | None, plant: str) -> list[str]:
        self._in_project()
        path = self._data(next(self._numbers), lines=400)
        name = f"{path.stem}.jsonl"
        command = ["data", "upload", str(path), "--format", "json"]
        first = self._run(found, command, kill_at, plant)
        self._again(found, command, plant)
        listed = self.http.get(f"/storage/v1/b/{self._project.datasets}/o", params={"prefix": f"datasets/{path.stem}"})
        objects = listed.json().get("items", [])
        contents = [self.http.get(item["mediaLink"]).content for item in objects]
        if len(contents) > 1:
            found.duplicates.append(name)
        if path.read_bytes() not in contents:
            found.lost.append(name)
        return first.points

    def _apply(self, found: Found, kill_at: int | None, plant: str) -> list[str]:
        self._in_project()
        number = next(self._numbers)
        place = self.folder / f"jobs-{number}"
        place.mkdir()
        manifests = Manifests(place)
        data = self._data(number)
        data.rename(place / "train.jsonl")
        names = [f"job-{number}-a", f"job-{number}-b"]
        for name in names:
            manifests.add(name, spec="maxCost: 5")
        command = ["apply", "-f", str(place), "--quota", "1000", "--format", "json"]
        first = self._run(found, command, kill_at, plant)
        self._again(found, command, plant)
        self._count(found, dict.fromkeys(names, 1))
        return first.points

    def _cancel(self, found: Found, kill_at: int | None, plant: str) -> list[str]:
        self._in_project()
        number = next(self._numbers)
        job, other = (self._created(f"{number}-{which}") for which in ("this", "other"))
        command = ["jobs", "cancel", job, "--yes", "--format", "json"]
        first = self._run(found, command, kill_at, plant)
        self._again(found, command, plant)
        deadline = time.monotonic() + 60
        while any(item["state"] == "JOB_STATE_CANCELLING" for item in self._jobs()) and time.monotonic() < deadline:
            time.sleep(0.02)  # the service ends a job a little later
        states = {item["name"].rsplit("/", 1)[-1]: item["state"] for item in self._jobs()}
        if states.get(job) != "JOB_STATE_CANCELLED":
            found.lost.append(f"{job} is {states.get(job)}")
        if states.get(other) != "JOB_STATE_PENDING":
            found.duplicates.append(f"{other} is {states.get(other)}")
        return first.points

    def _run(
        self, found: Found, command: list[str], kill_at: int | None, plant: str, values: dict[str, float] | None = None
    ) -> Run:
        run = self.killable.run(
            *command, variables=self.variables, kill_at=kill_at, after=self._after, plant=plant, values=values
        )
        if run.killed:
            found.kills += 1
            found.where[run.points[-1].split()[0]] += 1
            self._settle()
        elif kill_at is None and run.code not in (0, 8):
            raise RuntimeError(f"runner {' '.join(command)} ended with {run.code}: {run.output}")
        elif kill_at is not None:
            found.ended_before += 1
        return run

    def _again(self, found: Found, command: list[str], plant: str) -> None:
        run = self.killable.run(*command, variables=self.variables, plant=plant, values=DEAD)
        if run.code:
            found.failed.append(f"{' '.join(command)}: {run.code}: {run.output[-600:]}")

    def _settle(self) -> None:
        """Return once the service has done what the dead process sent.

        What that had sent lay in the service's sockets before the two requests here, and is read before they are
        answered; then its handlers are waited for.
        """
        for _ in range(2):
            with httpx.Client(base_url=self.server.url, timeout=60, verify=NO_TLS) as fresh:
                fresh.get("/_emulator/faults").raise_for_status()
        deadline = time.monotonic() + 60
        while self.server._server.server_state.tasks:
            if time.monotonic() > deadline:
                raise RuntimeError("the emulator does not come to rest")
            time.sleep(0.002)

    def _count(self, found: Found, wanted: dict[str, int]) -> None:
        """Compare the jobs that carry a name, or a learning rate, with how many there should be."""
        jobs: Counter[str] = Counter()
        for item in self._jobs():
            jobs[item.get("labels", {}).get("runner-manifest", "")] += 1
            jobs[str(item["supervisedTuningSpec"].get("hyperParameters", {}).get("learningRate"))] += 1
        for name, count in wanted.items():
            if jobs[name] > count:
                found.duplicates.append(name)
            elif jobs[name] < count:
                found.lost.append(name)

    def _jobs(self) -> list[dict]:  # type: ignore[type-arg]
        response = self.http.get(f"/v1beta1/{self._project.parent}/tuningJobs", params={"pageSize": "1000"})
        return list(response.json().get("tuningJobs", []))

    def _submission(self, number: int) -> list[str]:
        uri = f"gs://{self._project.datasets}/fixed.jsonl"
        rate = f"{(1 + number / 1000) * 1e-5:.4g}"
        return [
            "jobs",
            "submit",
            "--model",
            MODEL,
            "--train",
            uri,
            "--learning-rate",
            rate,
            "--yes",
            "--format",
            "json",
        ]

    def warm(self) -> None:
        """Run what the flows run once in the process that is forked."""
        self._in_project()
        path = self._data(next(self._numbers))
        job = self._created("warm")
        for command in (
            ["data", "upload", str(path), "--format", "json"],
            [*self._submission(next(self._numbers)), "--dry-run"],
            ["jobs", "cancel", job, "--yes", "--format", "json"],
        ):
            run = self.killable.warm(*command, variables=self.variables)
            if run.code:
                raise RuntimeError(f"runner {' '.join(command)} ended with {run.code}: {run.output}")

    @staticmethod
    def _rate(command: list[str]) -> str:
        return str(float(command[command.index("--learning-rate") + 1]))

    def _created(self, name: str) -> str:
        body = {
            "baseModel": MODEL,
            "supervisedTuningSpec": {
                "trainingDatasetUri": f"gs://{self._project.datasets}/fixed.jsonl",
                "tuningMode": "TUNING_MODE_PEFT_ADAPTER",
            },
            "outputUri": f"gs://{self._project.outputs}/{name}",
        }
        response = self.http.post(f"/v1beta1/{self._project.parent}/tuningJobs", json=body)
        return str(response.raise_for_status().json()["name"].rsplit("/", 1)[-1])

    def _data(self, number: int, lines: int = 2) -> Path:
        path = self.folder / f"train{number}.jsonl"
        rows = [{"prompt": f"What is {i} in {number}?", "completion": f"It is {i}."} for i in range(lines)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    def _in_project(self) -> None:
        """Make a new project when the last one has seen its share; its jobs wait for ever."""
        from tests.jobs.conftest import contract_bucket, set_quota

        self._left -= 1
        if self._left >= 0:
            return
        self._left = PER_PROJECT
        project = self._project = provision(self.server.url, f"sweep-{next(self._numbers)}")
        set_quota(project, 0)
        rows = b"".join(b'{"prompt": "What is %d?", "completion": "It is %d."}\n' % (i, i) for i in range(12))
        self.http.post(
            f"/upload/storage/v1/b/{project.datasets}/o?uploadType=media&name=fixed.jsonl", content=rows
        ).raise_for_status()
        self.variables = {
            "RUNNER_PROJECT": project.project,
            "RUNNER_PROJECT_NUMBER": project.number,
            "RUNNER_LOCATION": project.location,
            "RUNNER_DATASETS_BUCKET": project.datasets,
            "RUNNER_OUTPUTS_BUCKET": project.outputs,
            "RUNNER_CONTRACT_BUCKET": contract_bucket(project),
            "RUNNER_VERTEX_URL": project.url,
            "RUNNER_STORAGE_URL": project.url,
            "RUNNER_STATE_DIR": str(self.folder / f"state-{project.project}"),
        }


@contextmanager
def sweeping(folder: Path) -> Iterator[Sweep]:
    """Start an emulator and the process of the command lines."""
    settings = EmulatorSettings(directory=folder / "emulator", stand_in="tiny")
    with EmulatorServer(settings) as server, Killable(folder) as killable:
        sweep = Sweep(server, killable, folder)
        with sweep.http:
            sweep.warm()
            yield sweep
