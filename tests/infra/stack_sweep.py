"""Applications of a stack that are cut at a request or killed: is the next one green, with what a whole one makes?"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx

from infra.embedded import EmbeddedError, apply
from tests.infra.cutting import Cutting
from tests.loopback import NO_TLS

When = Literal["before", "after"]
_numbers = itertools.count(1)
_PASSES = 8
"""Over the points of a sweep."""

LOCAL: dict[str, str] = {"runnerImpersonators": '["user:ada@example.com"]'}
PRODUCTION = {
    **LOCAL,
    "environment": "prod",
    "forceDestroy": "false",
    "extraRegions": '["europe-west4"]',
    "labels": '{"team": "ml"}',
    "githubRepository": "owner/repository",
    "githubRepositoryId": "1234",
    "githubOwnerId": "56",
    "notificationEmails": '["ml@example.com", "ops@example.com"]',
    "budgetAmount": "100",
    "billingAccount": "012345-6789AB-CDEF01",
    "dataAccessAudit": "true",
    "concurrentTuningJobs": "3",
    "idleGuard": "true",
}
"""Every kind of resource but keys, in two regions; the sweep adds a perimeter."""
CONFIGURATIONS = {"local": LOCAL, "prod": PRODUCTION}

_APPLY = (
    "import json, sys; from pathlib import Path; from tests.infra.stack_sweep import up\n"
    "url, project, state, config = json.loads(sys.argv[1]); up(url, project, Path(state), config)"
)


def up(url: str, project: str, state: Path, config: dict[str, str]) -> Any:
    """Apply a stack without the engine."""
    return apply(url, project=project, location="us-central1", config={**config, "namePrefix": project}, state=state)


@dataclass
class StackSweep:
    """Stacks of one configuration in one emulator, each in a project of its own."""

    url: str
    cutting: Cutting
    folder: Path
    name: str
    """Of the configuration, and in the names of the projects."""
    stuck: list[str] = field(default_factory=list)
    """What is wrong, each as the point and what was there."""
    cases: int = 0
    expected: Any = None
    requests: list[str] = field(default_factory=list)
    """Those of a whole application that change something."""

    def measure(self) -> StackSweep:
        """Apply once without a fault: what there shall be, and how many requests can be cut."""
        project, state, config = self._fresh()
        up(self.cutting.url, project, state, config)
        self.expected, self.requests = self.inventory(project), list(self.cutting.changes)
        quiet(self.url, project)
        return self

    def points(self, every: int = 1) -> Iterator[tuple[int, When]]:
        """Yield each `every`-th point at which an application can be cut, in passes that each go over all of it."""
        wheres: tuple[When, ...] = ("before", "after")
        points = list(itertools.product(range(len(self.requests)), wheres))[::every]
        return itertools.chain.from_iterable(points[first::_PASSES] for first in range(_PASSES))

    def cut(self, at: int, when: When) -> None:
        """Cut one application and settle it."""
        project, state, config = self._fresh()
        self.cutting.arm(at, when)
        try:
            up(self.cutting.url, project, state, config)
            self.stuck.append(f"cut {when} request {at}, and the application ended well")
        except EmbeddedError as error:
            if "no answer" not in error.message:
                self.stuck.append(f"cut {when} request {at}: {error.message}")
        self._settle(project, state, config, f"cut {when} {self.cutting.cut}")

    def kill(self, part: float) -> None:
        """Kill one application after this part of its requests, and settle it."""
        project, state, config = self._fresh()
        arguments = json.dumps([self.cutting.url, project, str(state), config])
        self.cutting.arm(None)
        process = subprocess.Popen([sys.executable, "-c", _APPLY, arguments], env={**os.environ})
        goal = part * len(self.requests)
        while len(self.cutting.changes) < goal and process.poll() is None:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
        self._settle(project, state, config, f"killed after {goal:.0f} requests")

    def inventory(self, project: str) -> Any:
        """Return what a project has, without what differs between any two."""
        return inventory(self.url, project)

    def _settle(self, project: str, state: Path, config: dict[str, str], what: str) -> None:
        self.cases += 1
        self.cutting.arm(None)
        try:
            up(self.cutting.url, project, state, config)
            again = up(self.cutting.url, project, state, config)
        except EmbeddedError as error:
            self.stuck.append(f"{what}: {error.message}")
            return
        if (again.created, again.updated, again.deleted) != ((), (), ()):
            self.stuck.append(f"{what}: the one after still changes {again}")
        elif self.inventory(project) != self.expected:
            self.stuck.append(f"{what}: another stack")
        quiet(self.url, project)

    def _fresh(self) -> tuple[str, Path, dict[str, str]]:
        project = f"{self.name}-{os.getpid()}-{next(_numbers)}"
        config = dict(CONFIGURATIONS[self.name])
        if self.name == "prod":
            config |= {"perimeter": perimeter(self.url), "perimeterDryRun": "false"}
        return project, self.folder / f"{project}.json", config


def perimeter(url: str) -> str:
    """Make a perimeter, as somebody else's organisation would, and return its name."""

    def post(path: str, body: Any) -> Any:
        answer = httpx.post(f"{url}/v1/{path}", json=body, trust_env=False, timeout=60, verify=NO_TLS)
        return answer.raise_for_status().json()

    policy = post("accessPolicies", {"parent": "organizations/1", "title": "all"})["response"]["name"]
    name = f"{policy}/servicePerimeters/data"
    post(f"{policy}/servicePerimeters", {"name": name, "title": "data", "useExplicitDryRunSpec": True})
    return name


def quiet(url: str, project: str) -> None:
    """Delete a project's schedules: the idle guards of stacks that were looked at would run as long as the sweep."""
    with httpx.Client(base_url=f"{url}/scheduler/v1", trust_env=False, timeout=60, verify=NO_TLS) as client:
        for region in ("us-central1", "europe-west4"):
            answer = client.get(f"/projects/{project}/locations/{region}/jobs")
            for job in answer.json().get("jobs", []) if answer.is_success else []:
                client.delete(f"/{job['name']}").raise_for_status()


def inventory(url: str, project: str) -> Any:
    """Return what a project has, without what differs between any two."""

    def get(path: str, method: str = "GET") -> Any:
        answer = httpx.request(
            method, f"{url}{path}", json={} if method == "POST" else None, trust_env=False, timeout=60, verify=NO_TLS
        )
        return answer.json() if answer.is_success else {}

    def bindings(policy: Any) -> Any:
        return sorted(
            (item["role"], sorted(item["members"]), json.dumps(item.get("condition"), sort_keys=True))
            for item in policy.get("bindings", [])
        )

    found: dict[str, Any] = {}
    for bucket in get(f"/storage/v1/b?project={project}").get("items", []):
        kept = {key: bucket.get(key) for key in ("labels", "lifecycle", "location", "versioning", "storageClass")}
        objects = get(f"/storage/v1/b/{bucket['name']}/o").get("items", [])
        found[bucket["name"]] = [
            kept,
            bindings(get(f"/storage/v1/b/{bucket['name']}/iam")),
            [one["name"] for one in objects],
        ]
    accounts = get(f"/v1/projects/{project}/serviceAccounts").get("accounts", [])
    for one in accounts:
        found[one["email"]] = [one["displayName"], bindings(get(f"/v1/{one['name']}:getIamPolicy", "POST"))]
    found["iam"] = bindings(get(f"/v1/projects/{project}:getIamPolicy", "POST"))
    for region in ("us-central1", "europe-west4"):
        place = f"projects/{project}/locations/{region}"
        endpoints = get(f"/v1/{place}/endpoints").get("endpoints", [])
        found[f"endpoints {region}"] = sorted(one["displayName"] for one in endpoints)
        functions = get(f"/functions/v2/{place}/functions").get("functions", [])
        found[f"functions {region}"] = sorted((one["name"], one["state"]) for one in functions)
        jobs = get(f"/scheduler/v1/{place}/jobs").get("jobs", [])
        found[f"schedules {region}"] = sorted((one["name"], one["schedule"]) for one in jobs)
    pools = get(f"/v1/projects/{project}/locations/global/workloadIdentityPools").get("workloadIdentityPools", [])
    found["pools"] = sorted((one["name"].rsplit("/", 1)[-1], one.get("state")) for one in pools)
    roles = get(f"/v1/projects/{project}/roles").get("roles", [])
    found["roles"] = sorted(one["name"] for one in roles)
    monitoring = f"/monitoring/v3/projects/{project}"
    for kind in ("alertPolicies", "notificationChannels"):
        found[kind] = sorted(one["displayName"] for one in get(f"{monitoring}/{kind}").get(kind, []))
    number = str(get(f"/v1/projects/{project}").get("projectNumber"))
    text = json.dumps(found, sort_keys=True).replace(project, "PROJECT").replace(number, "NUMBER")
    return json.loads(text)
