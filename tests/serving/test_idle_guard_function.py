"""The idle guard's function, unpacked from its archive, over models that are really deployed."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from runner.gcp import endpoints, operations
from runner.gcp.session import Session
from runner.serving import leases
from runner.serving.deployment import deploy, undeploy
from runner.serving.plan import plan_deployment
from runner.serving.prediction import predict
from tests.infra.guard_function import call, unpack
from tests.projects import Tuned
from tests.serving.conftest import MACHINE, Truth


@pytest.mark.training
def test_the_function_takes_down_what_is_over_or_idle_and_nothing_else(
    tuned: Tuned, tuned_session: Session, truth: Truth, state: Path, standing: str, tmp_path: Path
) -> None:
    environment = tuned.environment
    enabled = f"/v1/projects/{environment.project}/services:batchEnable"
    tuned_session.http.post(enabled, json={"serviceIds": ["monitoring.googleapis.com"]}).raise_for_status()
    before = truth.names()
    # On an endpoint as the stack makes it, asked a moment ago: neither its lease nor its idle limit has passed.
    leased = deploy(
        tuned_session,
        plan_deployment(tuned_session, tuned.job.id, endpoint=standing, machine_type=MACHINE, idle_seconds=2.0),
        poll=0.3,
    )
    over = deploy(tuned_session, plan_deployment(tuned_session, tuned.job.id, lease_seconds=3600.0), poll=0.3)
    leases.extend(tuned_session, over, -5.0)
    idle = deploy(tuned_session, plan_deployment(tuned_session, tuned.job.id, idle_seconds=2.0), poll=0.3)
    foreign = operations.wait(
        tuned_session,
        endpoints.deploy_custom_model(tuned_session, tuned.job.final_checkpoint_uri, display_name="another's"),
        timeout=120,
        poll=0.3,
    )
    time.sleep(2.1)
    predict(tuned_session, leased, [{"prompt": "What is 3?", "max_tokens": 1}])
    variables = {
        "RUNNER_PROJECT": environment.project,
        "RUNNER_REGIONS": environment.location,
        "RUNNER_VERTEX_URL": str(environment.vertex_url),
        "RUNNER_STORAGE_URL": str(environment.storage_url),
        "RUNNER_STATE_DIR": str(tmp_path / "state"),
    }
    # The idle limit is short enough for a slow machine to pass it between the request and the guard's look.
    leases.extend(tuned_session, leased, 3600.0, 600.0)
    answer, said = call(unpack(tmp_path), **variables)
    assert answer == "('done', 200)"
    found = {str(entry["resource"]): entry["kind"] for entry in said if entry["event"] == "found"}
    assert found == {over.name: "expired", idle.name: "idle"}
    there = truth.names()
    assert over.name not in there
    assert idle.name not in there
    assert {leased.name, foreign["endpoint"]} <= there
    assert [item.id for item in endpoints.get_endpoint(tuned_session, leased.name).deployed_models]

    undeploy(tuned_session, leased)
    theirs = endpoints.get_endpoint(tuned_session, foreign["endpoint"])
    for item in theirs.deployed_models:
        operations.wait(tuned_session, endpoints.undeploy_model(tuned_session, theirs.name, item.id), timeout=60)
    operations.wait(tuned_session, endpoints.delete_endpoint(tuned_session, theirs.name), timeout=60)
    operations.wait(tuned_session, endpoints.delete_model(tuned_session, foreign["model"]), timeout=60)
    assert truth.names() == before
