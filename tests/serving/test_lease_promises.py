"""What is said of the end of a lease is what happens: nothing is promised where nothing ends it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.naming import idle_guard_name
from runner.emulator.server import EmulatorServer
from runner.environment import Environment, resolve
from runner.gcp.environments import open_environment
from runner.gcp.session import Session
from runner.infrastructure.provisioning import provision
from runner.serving.leases import Lease, ending

patiently = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@patiently
@given(
    until=st.one_of(st.none(), st.floats(0, 4e9)),
    idle=st.one_of(st.none(), st.floats(60, 1e6)),
    minutes=st.integers(0, 60),
)
def test_only_a_guard_ends_anything(until: float | None, idle: float | None, minutes: int) -> None:
    text = ending(Environment(project="p", idle_guard_minutes=minutes), Lease(until=until, idle=idle), "e1", now=2e9)
    assert "at most" not in text
    limited = until is not None or idle is not None
    assert ("undeploys it then" in text or "undeploys it after" in text) == (bool(minutes) and limited) or (
        "nothing here undeploys it" in text
    )
    if not (minutes and limited):
        assert "`runner endpoints undeploy e1`" in text
        assert "the idle guard, which" not in text


def test_the_guard_of_a_stack_looks_after_its_own_project_and_regions(tmp_path: Path) -> None:
    document = {
        "version": 1,
        "project": "own",
        "location": "us-central1",
        "buckets": {"datasets": "d-d", "images": "i-i", "outputs": "o-o"},
        "idleGuard": {"minutes": 15},
    }
    path = tmp_path / "environment.json"
    path.write_text(json.dumps(document))

    def minutes(**flags: str) -> int:
        return resolve({"environment": str(path), **flags}).idle_guard_minutes

    assert minutes() == 15
    assert minutes(project="another") == 0
    assert minutes(location="europe-west4") == 0
    document["regions"] = {
        region: {"buckets": {"datasets": "d-d", "images": "i-i", "outputs": "o-o"}}
        for region in ("us-central1", "europe-west4")
    }
    path.write_text(json.dumps(document))
    assert minutes(location="europe-west4") == 15
    del document["idleGuard"]
    path.write_text(json.dumps(document))
    assert minutes() == 0


@pytest.mark.parametrize("wrong", [15, {"minutes": "15"}, {"minutes": True}, {}])
def test_a_guard_without_minutes_is_a_mistake(tmp_path: Path, wrong: object) -> None:
    path = tmp_path / "environment.json"
    path.write_text(json.dumps({"version": 1, "project": "own", "location": "us-central1", "idleGuard": wrong}))
    with pytest.raises(Exception, match="idleGuard must be an object"):
        resolve({"environment": str(path)})


def test_a_provisioned_emulator_has_the_guard_that_its_environment_names(
    emulator: EmulatorServer, tmp_path: Path
) -> None:
    project = f"guarded-{time.monotonic_ns()}"
    provision(emulator.url, tmp_path, project=project, location="us-central1")
    with Session(open_environment({"environment": str(tmp_path / "environment.json")})) as session:
        minutes = session.environment.idle_guard_minutes
    name = f"projects/{project}/locations/us-central1/jobs/{idle_guard_name(project)}"
    job = httpx.get(f"{emulator.url}/scheduler/v1/{name}", trust_env=False, timeout=120).raise_for_status().json()
    assert job["state"] == "ENABLED"
    assert job["schedule"] == f"*/{minutes} * * * *"
