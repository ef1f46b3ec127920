"""An endpoint that `undeploy` left empty is used again for the same weights, and for nothing else."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from runner.gcp import endpoints
from runner.gcp.session import Session
from runner.prices import AGREED
from runner.serving import deploying
from runner.serving.deployment import undeploy
from runner.serving.labels import LEASE_LABEL
from runner.serving.leaks import find_leaks
from runner.serving.plan import plan_deployment
from runner.serving.resources import Reach
from tests.cli.invocation import CommandLine
from tests.projects import Tuned
from tests.serving.conftest import MACHINE

NAME = "reused"


@pytest.fixture
def left_empty(tuned: Tuned, tuned_session: Session) -> Iterator[str]:
    """The name of an endpoint whose model was undeployed; all of that display name are deleted afterwards."""
    plan = plan_deployment(tuned_session, tuned.job.id, display_name=NAME, machine_type=MACHINE, lease_seconds=1.0)
    made = deploying.deploy(tuned_session, plan, terms=AGREED)
    undeploy(tuned_session, made)
    yield made.name
    for item in named(tuned_session):
        undeploy(tuned_session, item, delete=True)


def named(session: Session) -> list[endpoints.Endpoint]:
    return [item for item in endpoints.list_endpoints(session) if item.display_name == NAME]


@pytest.mark.training
def test_the_same_weights_come_back_to_their_endpoint(
    tuned: Tuned, tuned_session: Session, left_empty: str, run: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = tuned.environment
    variables = {"PROJECT": where.project, "VERTEX_URL": where.vertex_url, "STORAGE_URL": where.storage_url}
    for name, value in variables.items():
        monkeypatch.setenv(f"RUNNER_{name}", str(value))
    words = ("endpoints", "deploy", tuned.job.id, "--name", NAME, "--machine-type", MACHINE)
    shown = run(*words, "--dry-run", "--json")
    assert (shown.document["endpoint"], shown.document["reusesEndpoint"]) == (left_empty, True)
    assert "it is empty, and was made for these weights" in shown.err

    outcome = run(*words, "--yes", "--json")

    assert outcome.code == 0, outcome.err
    [endpoint] = named(tuned_session)
    assert endpoint.name == left_empty
    assert [item.display_name for item in endpoint.deployed_models] == [NAME]
    assert list(endpoint.traffic.values()) == [100]
    assert float(endpoint.labels[LEASE_LABEL]) > time.time() + 3600, "not the lease of the first deployment"
    assert [leak for leak in find_leaks(tuned_session) if left_empty in leak.resource] == []


@pytest.mark.training
def test_nothing_else_comes_there(tuned: Tuned, tuned_session: Session, left_empty: str) -> None:
    others = (
        {"display_name": "another"},
        {"checkpoint": "1"},
        {"reach": Reach(access="dedicated")},
    )
    for other in others:
        choices = {"display_name": NAME, "machine_type": MACHINE, **other}
        plan = plan_deployment(tuned_session, tuned.job.id, **choices)  # type: ignore[arg-type]
        assert (plan.endpoint, plan.reuses) == (None, False), other
    plan = plan_deployment(tuned_session, tuned.job.id, display_name=NAME, machine_type=MACHINE)
    assert plan.endpoint == left_empty
    deploying.deploy(tuned_session, plan, terms=AGREED)
    second = plan_deployment(tuned_session, tuned.job.id, display_name=NAME, machine_type=MACHINE)
    assert second.endpoint is None, "it is not empty"
