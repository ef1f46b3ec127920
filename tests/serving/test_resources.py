"""Replicas, scaling, spot, reservations, reach: in the API's body as they were asked for, or refused before a call."""

from __future__ import annotations

from typing import Any

import pytest

from runner.environment import Environment
from runner.errors import ConfigurationError
from runner.gcp import endpoints
from runner.gcp.session import Session
from runner.serving.deployment import deploy, undeploy
from runner.serving.plan import plan_deployment
from runner.serving.resources import Reach, Resources
from tests.cli.invocation import process
from tests.projects import Tuned
from tests.serving.conftest import MACHINE

RESERVATION = "projects/p/zones/us-central1-a/reservations/gpus"


@pytest.mark.parametrize(
    ("choices", "problem"),
    [
        ({"machine_type": MACHINE, "accelerator_type": "NVIDIA_H100_80GB"}, "has 1 NVIDIA_L4, not 1 NVIDIA_H100_80GB"),
        ({"machine_type": MACHINE, "accelerator_count": 2}, "has 1 NVIDIA_L4, not 2 NVIDIA_L4"),
        ({"accelerator_type": "NVIDIA_L4"}, "needs a machine type"),
        ({"resources": Resources(min_replicas=3, max_replicas=2)}, "fewer than at least 3"),
        ({"resources": Resources(min_replicas=0)}, "need a time without requests"),
        ({"resources": Resources(min_replicas=1, scale_to_zero=600)}, "cannot scale to zero"),
        ({"resources": Resources(min_replicas=0, scale_to_zero=60)}, "between 5 minutes and 8 hours"),
        ({"resources": Resources(autoscale=(("gpu", 60),))}, "more than one replica"),
        ({"resources": Resources(max_replicas=2, autoscale=(("disk", 60),))}, "not an autoscaling metric"),
        ({"resources": Resources(max_replicas=2, autoscale=(("gpu", 101),))}, "1 to 100"),
        ({"resources": Resources(max_replicas=2, autoscale=(("cpu", 50), ("cpu", 60)))}, "given twice"),
        ({"machine_type": MACHINE, "resources": Resources(spot=True, reservation="any")}, "do not use"),
        ({"machine_type": MACHINE, "resources": Resources(reservation="mine")}, "is not any, none or"),
        ({"endpoint": "77", "reach": Reach(access="dedicated")}, "only a new endpoint"),
        ({"reach": Reach(access="private")}, "needs the projects"),
        ({"percent": 10}, "needs an existing endpoint"),
    ],
)
def test_what_does_not_go_together_is_refused_before_any_call(choices: dict[str, Any], problem: str) -> None:
    # Nothing listens there: a call would fail in another way.
    nowhere = Environment(project="p", vertex_url="http://127.0.0.1:9", storage_url="http://127.0.0.1:9", token="t")
    with Session(nowhere) as session, pytest.raises(ConfigurationError, match=problem):
        plan_deployment(session, "gs://bucket/weights", **choices)


def test_options_that_exclude_each_other() -> None:
    for words, problem in (
        (("--shared", "--private", "other"), "only a private one has (--shared, --dedicated, --private)"),
        (("--percent", "5"), "needs an existing endpoint (--percent, --endpoint)"),
        (("--autoscale", "gpu"), "--autoscale takes METRIC=TARGET, such as gpu=60, not 'gpu'"),
    ):
        wrong = process(
            *("endpoints", "deploy", "gs://b/w", *words), RUNNER_PROJECT="p", RUNNER_VERTEX_URL="http://127.0.0.1:9"
        )
        assert wrong.code == 2
        assert problem in wrong.err


@pytest.mark.training
def test_all_of_it_reaches_a_new_endpoint(tuned: Tuned, tuned_session: Session) -> None:
    resources = Resources(
        min_replicas=0, max_replicas=3, autoscale=(("gpu", 70), ("requests", 120)), spot=True, scale_to_zero=900
    )
    plan = plan_deployment(
        tuned_session,
        tuned.job.id,
        machine_type=MACHINE,
        resources=resources,
        reach=Reach(access="private", projects=("friends",)),
    )
    assert plan.to_json()["leastUsdPerHour"] == 0
    assert plan.usd_per_hour == pytest.approx(3 * 1.1507)
    assert plan.to_json()["usdPerMonth"] == [0.0, 2520.03]
    made = deploy(tuned_session, plan, poll=0.2)
    try:
        [item] = made.deployed_models
        assert item.replicas == 3
        given = made.raw["deployedModels"][0]["dedicatedResources"]
        assert given == {
            "machineSpec": {"machineType": MACHINE, "acceleratorType": "NVIDIA_L4", "acceleratorCount": 1},
            "maxReplicaCount": 3,
            "initialReplicaCount": 1,
            "autoscalingMetricSpecs": [
                {"metricName": "aiplatform.googleapis.com/prediction/online/accelerator/duty_cycle", "target": 70},
                {"metricName": "aiplatform.googleapis.com/prediction/online/request_count", "target": 120},
            ],
            "spot": True,
            "scaleToZeroSpec": {"idleScaledownPeriod": "900s"},
        }
        assert made.raw["privateServiceConnectConfig"] == {
            "enablePrivateServiceConnect": True,
            "projectAllowlist": ["friends"],
        }
    finally:
        undeploy(tuned_session, made, delete=True)


@pytest.mark.training
def test_a_reservation_reaches_a_standing_endpoint(tuned: Tuned, tuned_session: Session, standing: str) -> None:
    plan = plan_deployment(
        tuned_session,
        tuned.job.final_checkpoint_uri,
        endpoint=standing,
        resources=Resources(min_replicas=2, max_replicas=2, reservation="any"),
    )
    assert plan.machine is not None, "the service recommends one for weights whose base nobody named"
    steps: list[str] = []
    made = deploy(tuned_session, plan, poll=0.2, progress=steps.append)
    assert {"starting deployment", "preparing model", "starting model server"} & {*steps}, "the service's own stages"
    assert len(steps) == len(set(steps)), "each is told once"
    given = made.raw["deployedModels"][0]["dedicatedResources"]
    assert given["machineSpec"]["reservationAffinity"] == {"reservationAffinityType": "ANY_RESERVATION"}
    assert (given["minReplicaCount"], given["maxReplicaCount"]) == (2, 2)
    undeploy(tuned_session, made)


def test_a_reservation_by_name() -> None:
    assert Resources(reservation=RESERVATION).affinity() == {
        "reservationAffinityType": "SPECIFIC_RESERVATION",
        "key": "compute.googleapis.com/reservation-name",
        "values": [RESERVATION],
    }
    assert Resources(reservation="none").affinity() == {"reservationAffinityType": "NO_RESERVATION"}
    assert Reach(access="shared").body() == {"dedicatedEndpointDisabled": True}
    assert Reach(access="dedicated").body() == {"dedicatedEndpointEnabled": True}


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        ({"minReplicaCount": 3, "maxReplicaCount": 2}, "min_replica_count 3"),
        ({"scaleToZeroSpec": {}, "minReplicaCount": 1, "initialReplicaCount": 1}, "initial_replica_count"),
        ({"scaleToZeroSpec": {"idleScaledownPeriod": "10s"}}, "between 300s and 28800s"),
        ({"spot": True, "machineSpec": {"reservationAffinity": {"reservationAffinityType": 2}}}, "Spot VMs"),
    ],
)
def test_the_emulator_checks_them_too(session: Session, resources: dict[str, Any], message: str) -> None:
    parent = session.environment.parent
    body = {
        "publisherModelName": "publishers/meta/models/llama3_1@llama-3.1-8b-instruct",
        "deployConfig": {"dedicatedResources": resources},
    }
    answer = session.http.post(f"/v1beta1/{parent}:deploy", json=body)
    assert answer.status_code == 400, answer.content
    assert message in answer.json()["error"]["message"]
    assert endpoints.list_endpoints(session) == []
