"""An application that is cut off anywhere is followed by one that ends green, with what a whole one makes."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest

from infra.embedded import EmbeddedError, apply
from runner.emulator.server import EmulatorServer
from tests.infra.cutting import Cutting

_numbers = itertools.count(1)
EVERY = int(os.environ.get("SWEEP_EVERY", "29"))
"""A sweep looks at each such request: 1 is all of them, as `SWEEP_EVERY=1 pytest tests/infra/test_interrupted.py`."""
KILLS = int(os.environ.get("SWEEP_KILLS", "3"))
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
}
"""Every kind of resource that an emulator has, in two regions."""


def inventory(url: str, project: str) -> Any:
    """Return what a project has, without what differs between any two."""

    def get(path: str, method: str = "GET") -> Any:
        answer = httpx.request(
            method, f"{url}{path}", json={} if method == "POST" else None, trust_env=False, timeout=60
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
        endpoints = get(f"/v1/projects/{project}/locations/{region}/endpoints").get("endpoints", [])
        found[f"endpoints {region}"] = sorted(one["displayName"] for one in endpoints)
    pools = get(f"/v1/projects/{project}/locations/global/workloadIdentityPools").get("workloadIdentityPools", [])
    found["pools"] = sorted((one["name"].rsplit("/", 1)[-1], one.get("state")) for one in pools)
    monitoring = f"/monitoring/v3/projects/{project}"
    for kind in ("alertPolicies", "notificationChannels"):
        found[kind] = sorted(one["displayName"] for one in get(f"{monitoring}/{kind}").get(kind, []))
    number = str(get(f"/v1/projects/{project}").get("projectNumber"))
    text = json.dumps(found, sort_keys=True).replace(project, "PROJECT").replace(number, "NUMBER")
    return json.loads(text)


def up(url: str, project: str, state: Path, config: dict[str, str]) -> Any:
    return apply(url, project=project, location="us-central1", config={**config, "namePrefix": project}, state=state)


@pytest.mark.parametrize(("name", "config"), [("local", LOCAL), ("prod", PRODUCTION)])
def test_wherever_the_conversation_is_cut_the_next_application_ends_green(
    name: str, config: dict[str, str], emulator: EmulatorServer, tmp_path: Path
) -> None:
    with Cutting(emulator.url) as cutting:
        whole = f"cut-{name}-{os.getpid()}-0"
        up(cutting.url, whole, tmp_path / "whole.json", config)
        expected, count = inventory(emulator.url, whole), len(cutting.changes)
        assert count > 30
        stuck: list[Any] = []
        wheres: tuple[Literal["before", "after"], ...] = ("before", "after")
        points = [(at, when) for at in range(0, count, EVERY) for when in wheres]
        for at, when in points:
            project, state = f"cut-{name}-{os.getpid()}-{next(_numbers)}", tmp_path / f"{at}-{when}.json"
            cutting.arm(at, when)
            with pytest.raises(EmbeddedError, match="no answer"):
                up(cutting.url, project, state, config)
            cut = cutting.cut
            cutting.arm(None)
            up(cutting.url, project, state, config)
            again = up(cutting.url, project, state, config)
            if (again.created, again.updated, again.deleted) != ((), (), ()):
                stuck.append((at, when, cut, again))
            elif inventory(emulator.url, project) != expected:
                stuck.append((at, when, cut, "another stack"))
        assert stuck == []


def test_wherever_the_process_is_killed_the_next_application_ends_green(
    emulator: EmulatorServer, tmp_path: Path
) -> None:
    script = (
        "import json, sys; from pathlib import Path; from tests.infra.test_interrupted import up\n"
        "url, project, state, config = json.loads(sys.argv[1]); up(url, project, Path(state), config)"
    )
    with Cutting(emulator.url) as cutting:
        whole = f"kill-{os.getpid()}-0"
        up(cutting.url, whole, tmp_path / "whole.json", LOCAL)
        expected, count = inventory(emulator.url, whole), len(cutting.changes)
        for number in range(KILLS):
            project, state = f"kill-{os.getpid()}-{number + 1}", tmp_path / f"{number}.json"
            cutting.arm(None)
            arguments = json.dumps([cutting.url, project, str(state), LOCAL])
            process = subprocess.Popen([sys.executable, "-c", script, arguments], env={**os.environ})
            goal = (number + 1) * count // (KILLS + 1)
            while len(cutting.changes) < goal and process.poll() is None:
                pass
            process.send_signal(signal.SIGKILL)
            process.wait()
            up(cutting.url, project, state, LOCAL)
            again = up(cutting.url, project, state, LOCAL)
            assert (again.created, again.updated, again.deleted) == ((), (), ())
            assert inventory(emulator.url, project) == expected
