"""Leases, leaks and the idle guard, on models that are really deployed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runner import times
from runner.errors import ConfigurationError
from runner.gcp import deployed, endpoints, operations, uploads, usage
from runner.gcp.session import Session
from runner.serving import leases
from runner.serving.deployment import deploy, undeploy
from runner.serving.labels import IDLE_LABEL, LEASE_LABEL, lease_labels, number_of
from runner.serving.leaks import clean, find_leaks
from runner.serving.plan import container_spec, plan_deployment
from runner.serving.prediction import predict
from tests.cli.invocation import Outcome, process
from tests.projects import Tuned
from tests.serving.conftest import MACHINE, Truth

HOUR = 3600.0


def _variables(tuned: Tuned, state: Path) -> dict[str, str]:
    environment = tuned.environment
    return {
        "RUNNER_PROJECT": environment.project,
        "RUNNER_LOCATION": environment.location,
        "RUNNER_VERTEX_URL": str(environment.vertex_url),
        "RUNNER_STORAGE_URL": str(environment.storage_url),
        "RUNNER_STATE_DIR": str(state),
    }


def _run(tuned: Tuned, state: Path, *arguments: str) -> Outcome:
    return process(*arguments, timeout=120, **_variables(tuned, state))


def _guard(tuned: Tuned, state: Path, *arguments: str) -> tuple[int, list[dict[str, object]]]:
    done = subprocess.run(
        [sys.executable, "-m", "runner.serving.idle_guard", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **_variables(tuned, state)},
        cwd=Path(__file__).parents[2],
    )
    assert not done.stderr, done.stderr
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def test_labels_of_a_lease() -> None:
    labels = lease_labels(8 * HOUR, None, now=1000.9)
    assert labels == {LEASE_LABEL: "29800", IDLE_LABEL: "none"}
    assert (number_of(labels, LEASE_LABEL), number_of(labels, IDLE_LABEL)) == (29800.0, None)
    assert number_of({LEASE_LABEL: "١٢"}, LEASE_LABEL) is None
    assert number_of({}, LEASE_LABEL) is None


@pytest.mark.training
def test_a_deployment_has_a_lease_that_ends_and_can_be_extended(
    tuned: Tuned, tuned_session: Session, truth: Truth, state: Path
) -> None:
    before = truth.names()
    start = time.time()
    made = deploy(tuned_session, plan_deployment(tuned_session, tuned.job.id, lease_seconds=HOUR), poll=0.3)
    [item] = made.deployed_models
    model = endpoints.get_model(tuned_session, item.model)["labels"]
    for labels in (made.labels, item.labels, model):
        assert HOUR - 5 <= float(labels[LEASE_LABEL]) - start <= HOUR + 120
        assert labels[IDLE_LABEL] == "7200"
    assert find_leaks(tuned_session) == []

    later = start + 1.5 * HOUR
    [leak] = find_leaks(tuned_session, now=later)
    assert (leak.kind, leak.resource, leak.deployed_model) == ("expired", made.name, item.id)
    assert leak.to_json()["usdPerDay"] == 27.62
    assert clean(tuned_session, [leak]) == ([], []), "it is looked at again, by the true clock, before it is removed"

    assert leases.extend(tuned_session, made, 8 * HOUR).idle == 7200
    assert find_leaks(tuned_session, now=later) == []
    extended = endpoints.get_endpoint(tuned_session, made.id)
    assert float(extended.labels[LEASE_LABEL]) - start > 7 * HOUR
    assert leases.extend(tuned_session, extended, None, None) == leases.Lease()
    assert find_leaks(tuned_session, now=start + 5000 * HOUR) == [], "without end is without end"

    leases.extend(tuned_session, extended, -5.0)
    listed = _run(tuned, state, "leaks", "--format", "json")
    assert [body["kind"] for body in listed.document] == ["expired"]
    unconfirmed = _run(tuned, state, "leaks", "--clean")
    assert unconfirmed.code == 2
    assert "27.62" in unconfirmed.out
    assert made.name in truth.names()
    cleaned = _run(tuned, state, "leaks", "--clean", "--yes", "--format", "json")
    assert cleaned.code == 0, cleaned.err
    assert made.name in cleaned.document["removed"]
    assert truth.names() == before


@pytest.mark.training
def test_an_extension_tells_the_price_of_what_is_extended_alone(
    tuned: Tuned, tuned_session: Session, truth: Truth, state: Path, standing: str
) -> None:
    wanted = plan_deployment(tuned_session, tuned.job.id, endpoint=standing, machine_type=MACHINE)
    own = deploy(tuned_session, wanted, poll=0.3)
    assert wanted.machine is not None
    container = container_spec(wanted.source, 1)
    upload = endpoints.upload_model(
        tuned_session, display_name="theirs", gcs_uri=wanted.source, container=container, labels={}
    )
    model = operations.wait(tuned_session, upload, timeout=60)["model"]
    theirs = endpoints.deploy_model(tuned_session, own.name, model, wanted.machine, traffic={})
    operations.wait(tuned_session, theirs, timeout=120, poll=0.3)
    both = endpoints.get_endpoint(tuned_session, standing)
    assert len(both.deployed_models) == 2
    extended = _run(tuned, state, "endpoints", "extend", standing, "--lease", "2h", "--format", "json")
    assert extended.document["usdPerHour"] == wanted.usd_per_hour, extended.err
    undeploy(tuned_session, both)


@pytest.mark.training
def test_the_idle_guard_ends_what_nobody_asks_and_only_that(
    tuned: Tuned, tuned_session: Session, truth: Truth, state: Path, standing: str
) -> None:
    enabled = f"/v1/projects/{tuned.environment.project}/services:batchEnable"
    tuned_session.http.post(enabled, json={"serviceIds": ["monitoring.googleapis.com"]}).raise_for_status()
    before = truth.names()
    asked = deploy(
        tuned_session,
        plan_deployment(tuned_session, tuned.job.id, endpoint=standing, machine_type=MACHINE, idle_seconds=600.0),
        poll=0.3,
    )
    quiet = deploy(tuned_session, plan_deployment(tuned_session, tuned.job.id, idle_seconds=600.0), poll=0.3)
    foreign = operations.wait(
        tuned_session,
        endpoints.deploy_custom_model(tuned_session, tuned.job.final_checkpoint_uri, display_name="another's"),
        timeout=120,
        poll=0.3,
    )
    made = times.seconds_of(quiet.deployed_models[0].create_time)
    assert made is not None
    latest = 0.0
    while latest < made + 2.0:
        predict(tuned_session, asked, [{"prompt": "What is 3?", "max_tokens": 1}])
        last = usage.last_requests(tuned_session, time.time() - 600)
        assert last is not None
        ours = {key for key in last if key[0] in {asked.id, quiet.id, foreign["endpoint"].rsplit("/", 1)[-1]}}
        assert ours == {(asked.id, asked.deployed_models[0].id)}
        latest = last[asked.id, asked.deployed_models[0].id]

    assert find_leaks(tuned_session) == []
    kinds = {leak.resource: leak.kind for leak in find_leaks(tuned_session, now=latest + 599.0)}
    assert kinds == {quiet.name: "idle"}, "one was asked, one is not ours"
    leases.extend(tuned_session, quiet, HOUR, 1.0)
    # It may look before a second has passed since the last request that its metrics know of.
    deadline = time.monotonic() + 60
    code, events = _guard(tuned, state, "--dry-run")
    while not events and time.monotonic() < deadline:
        code, events = _guard(tuned, state, "--dry-run")
    assert (code, [event["event"] for event in events]) == (0, ["found"])
    code, events = _guard(tuned, state, "--project", tuned.environment.project, "--location", "us-central1")
    assert code == 0, events
    assert [event["event"] for event in events] == ["found", "removed", "removed", "removed"]
    assert quiet.name not in truth.names()
    assert {asked.name, foreign["endpoint"]} <= truth.names()

    undeploy(tuned_session, asked)
    theirs = endpoints.get_endpoint(tuned_session, foreign["endpoint"])
    for item in theirs.deployed_models:
        operations.wait(tuned_session, endpoints.undeploy_model(tuned_session, theirs.name, item.id), timeout=60)
    operations.wait(tuned_session, endpoints.delete_endpoint(tuned_session, theirs.name), timeout=60)
    operations.wait(tuned_session, endpoints.delete_model(tuned_session, foreign["model"]), timeout=60)
    assert truth.names() == before


def test_without_metrics_only_leases_count(session: Session) -> None:
    disable = f"/v1/projects/{session.environment.project}/services/monitoring.googleapis.com:disable"
    session.http.post(disable, json={}).raise_for_status()
    assert usage.last_requests(session, time.time() - 600) is None


def test_the_guard_says_what_is_wrong_with_its_command_line(state: Path) -> None:
    variables = {**os.environ, "RUNNER_STATE_DIR": str(state)}
    done = subprocess.run(
        [sys.executable, "-m", "runner.serving.idle_guard", "--location", "nowhere/at all"],
        capture_output=True,
        text=True,
        timeout=60,
        env=variables,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 2, done
    assert json.loads(done.stdout)["event"] == "error"


def test_empty_endpoints_and_orphaned_models_of_this_tool(session: Session) -> None:
    parent = session.environment.parent
    for identity, labels in (
        ("omt-left", {}),
        ("theirs", {}),
        ("labelled", {"managed-by": "open-model-tuning-runner"}),
    ):
        body = {"displayName": identity, "labels": labels}
        session.http.post(f"/v1beta1/{parent}/endpoints", params={"endpointId": identity}, json=body).raise_for_status()
    for identity, labels in (
        ("omt-left", {}),
        ("theirs", {}),
        ("tuned", {"managed-by": "open-model-tuning-runner"}),
        ("deployed", {"managed-by": "open-model-tuning-runner", LEASE_LABEL: "1"}),
    ):
        upload = endpoints.upload_model(
            session, display_name=identity, gcs_uri="gs://nowhere/w", container={}, labels=labels, model_id=identity
        )
        operations.wait(session, upload, timeout=60)
    assert find_leaks(session) == [], "all of it may belong to a deployment under way"
    found = find_leaks(session, now=time.time() + 3 * HOUR)
    assert {(leak.kind, leak.resource.rsplit("/", 1)[-1]) for leak in found} == {
        ("empty endpoint", "omt-left"),
        ("empty endpoint", "labelled"),
        ("orphaned model", "omt-left"),
        ("orphaned model", "deployed"),
    }
    removed, failed = clean(session, found)
    assert (len(removed), failed) == (4, [])
    assert [model.id for model in deployed.list_models(session)] == ["tuned", "theirs"]
    assert [endpoint.id for endpoint in endpoints.list_endpoints(session)] == ["theirs"]


def test_only_own_deployments_are_extended(session: Session) -> None:
    parent = session.environment.parent
    session.http.post(f"/v1beta1/{parent}/endpoints", params={"endpointId": "12"}, json={"displayName": "x"})
    with pytest.raises(ConfigurationError, match="was deployed by this tool"):
        leases.extend(session, endpoints.get_endpoint(session, "12"), HOUR)


@pytest.mark.parametrize(
    ("filter", "code"),
    [
        ("", 400),
        ('resource.type = "x"', 400),
        ("nonsense", 400),
        ('metric.type = "aiplatform.googleapis.com/prediction/online/prediction_count"', 200),
    ],
)
def test_the_emulator_checks_filters_of_metrics(session: Session, filter: str, code: int) -> None:
    project = session.environment.project
    session.http.post(
        f"/v1/projects/{project}/services:batchEnable", json={"serviceIds": ["monitoring.googleapis.com"]}
    ).raise_for_status()
    answer = session.http.get(
        f"/v3/projects/{project}/timeSeries", params={"filter": filter, "interval.endTime": "2026-01-01T00:00:00Z"}
    )
    assert answer.status_code == code, answer.content


def test_an_unreadable_weights_folder_is_refused_before_anything_is_written(session: Session, state: Path) -> None:
    uploads.upload_bytes(session, b"{}", f"gs://{session.environment.outputs_bucket}/w/config.json")
    with pytest.raises(Exception, match=r"no \.safetensors"):
        plan_deployment(session, f"gs://{session.environment.outputs_bucket}/w")
    assert not (state / "deployments").exists()
