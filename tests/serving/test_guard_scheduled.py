"""The idle guard as the stack makes it in an emulator: its schedule calls it, and it ends a lease."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from infra.embedded import apply
from infra.naming import idle_guard_name
from runner.gcp.session import Session
from runner.serving import leases
from runner.serving.deployment import deploy
from runner.serving.plan import plan_deployment
from tests.projects import Tuned
from tests.serving.conftest import Truth


@pytest.mark.training
def test_the_schedule_of_a_stack_ends_a_lease(
    tuned: Tuned, tuned_session: Session, truth: Truth, state: Path, tmp_path: Path
) -> None:
    environment = tuned.environment
    url, prefix = str(environment.vertex_url), f"{environment.project}-g"
    config = {"idleGuard": "true", "endpoint": "false", "namePrefix": prefix}
    apply(url, project=environment.project, location=environment.location, config=config, state=tmp_path / "state.json")
    before = truth.names()
    over = deploy(tuned_session, plan_deployment(tuned_session, tuned.job.id, lease_seconds=3600.0), poll=0.3)
    schedule = f"/scheduler/v1/projects/{environment.project}/locations/{environment.location}/jobs"
    name = idle_guard_name(prefix)

    def run() -> object:
        answer = httpx.post(f"{url}{schedule}/{name}:run", json={}, timeout=240, trust_env=False)
        answer.raise_for_status()
        return answer.json()["status"]

    assert run() == {}
    assert truth.names() > before  # its lease goes on
    leases.extend(tuned_session, over, -5.0)
    assert run() == {}
    assert truth.names() == before
