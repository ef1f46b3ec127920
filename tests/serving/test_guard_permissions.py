"""The idle guard holds what a pass needs: not one permission less, not one more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from infra.components.idle_guard import GUARD_PERMISSIONS
from runner.gcp.session import Session
from runner.serving import leases
from runner.serving.deployment import deploy
from runner.serving.plan import plan_deployment
from tests.infra.guard_function import call, unpack
from tests.infra.needs import permissions, recorded, withheld
from tests.projects import Tuned
from tests.serving.conftest import Truth

CHANGES = ("aiplatform.endpoints.undeploy", "aiplatform.endpoints.delete", "aiplatform.models.delete")
LOOKS = tuple(name for name in GUARD_PERMISSIONS if name not in CHANGES)


@pytest.mark.training
def test_the_guard_needs_each_of_its_permissions_and_no_other(
    tuned: Tuned, tuned_session: Session, truth: Truth, state: Path, tmp_path: Path
) -> None:
    environment = tuned.environment
    url = str(environment.vertex_url)
    enabled = f"/v1/projects/{environment.project}/services:batchEnable"
    tuned_session.http.post(enabled, json={"serviceIds": ["monitoring.googleapis.com"]}).raise_for_status()
    before = truth.names()
    code = unpack(tmp_path)

    def leave() -> None:
        """Deploy a model whose lease is over."""
        over = deploy(tuned_session, plan_deployment(tuned_session, tuned.job.id, lease_seconds=3600.0), poll=0.3)
        leases.extend(tuned_session, over, -5.0)

    def work() -> tuple[str, list[dict[str, Any]]]:
        return call(
            code,
            RUNNER_PROJECT=environment.project,
            RUNNER_REGIONS=environment.location,
            RUNNER_VERTEX_URL=url,
            RUNNER_STORAGE_URL=str(environment.storage_url),
            RUNNER_STATE_DIR=str(tmp_path / "state"),
        )

    leave()
    for permission in (*LOOKS, CHANGES[0]):
        with withheld(url, permission):
            answer, said = work()
        # Without the metrics a pass goes on by leases alone, and says so.
        assert answer != "('done', 200)" or "no metrics" in {entry["event"] for entry in said}, permission
        if truth.names() == before:
            leave()
    with recorded(url) as called:
        assert work()[0] == "('done', 200)"
    assert truth.names() == before
    assert permissions(called) == set(GUARD_PERMISSIONS)
    for permission in CHANGES[1:]:
        leave()
        with withheld(url, permission):
            assert work()[0] != "('done', 200)", permission
        # What is left is younger than what a pass takes for an orphan.
        for name in truth.names() - before:
            tuned_session.http.request("DELETE", f"/v1beta1/{name}").raise_for_status()
