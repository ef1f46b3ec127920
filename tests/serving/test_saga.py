"""Every request of a deployment lost, refused or unanswered: nothing is left.

What there is, is asked of the emulator plainly (`Truth`); `find_leaks` must show it, `clean` remove it.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.emulator import faults
from runner.emulator.server import EmulatorServer
from runner.errors import GoogleApiError, RunnerError, WaitTimeoutError
from runner.gcp import endpoints, operations, uploads
from runner.gcp.session import Session
from runner.serving import journal
from runner.serving.deployment import deploy, undeploy
from runner.serving.journal import DeploymentRecord
from runner.serving.leaks import clean, find_leaks
from runner.serving.plan import plan_deployment
from runner.serving.recovery import recover
from tests.cli.invocation import process
from tests.gcp.flaky import Fault, FlakyProxy
from tests.projects import Tuned
from tests.serving.conftest import MACHINE, Truth
from tests.serving.test_leases import _variables

pytestmark = [pytest.mark.training, pytest.mark.usefixtures("impatient")]

OWN_STEPS = [("POST", r":deploy$"), ("GET", r"/operations/"), ("PATCH", r"/models/"), ("PATCH", r"/endpoints/")]
STANDING_STEPS = [
    ("POST", r"models:upload$"),
    ("GET", r"/operations/"),
    ("POST", r":deployModel$"),
    ("PATCH", r"/models/"),
    ("PATCH", r"/endpoints/"),
]
KINDS: list[str | int] = ["lose request", "lose answer", 403]
if os.environ.get("SERVING_TEST_THOROUGH"):
    KINDS += ["503 after", 503]


@pytest.fixture
def through(tuned: Tuned, proxy: FlakyProxy) -> Iterator[Session]:
    with Session(dataclasses.replace(tuned.environment, vertex_url=proxy.url)) as opened:
        yield opened


def _clean_up(session: Session, truth: Truth, before: set[str], what: str) -> None:
    """Check that leaks show exactly what is left, and that cleaning leaves nothing."""
    left = truth.names() - before
    shown = find_leaks(session)
    assert bool(left) == bool(shown), (what, left, shown)
    for leak in shown:
        record = leak.record
        assert record is not None
        made = {record.model.split("/locations/")[1], record.endpoint.split("/locations/")[1]}
        assert made & {name.split("/locations/")[1] for name in left}, (what, left, leak)
    deadline = time.monotonic() + 60
    while True:
        clean(session, shown)
        if truth.names() == before and not list((Path(os.environ["RUNNER_STATE_DIR"]) / "deployments").glob("*")):
            break
        assert time.monotonic() < deadline, (what, truth.names() - before)
        time.sleep(0.3)
    assert find_leaks(session) == []


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("step", OWN_STEPS, ids=lambda step: step[1])
def test_faults_of_a_deployment_to_a_new_endpoint(
    step: tuple[str, str],
    kind: str | int,
    tuned: Tuned,
    tuned_session: Session,
    through: Session,
    proxy: FlakyProxy,
    truth: Truth,
) -> None:
    _with_fault(step, kind, tuned, tuned_session, through, proxy, truth, None)


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("step", STANDING_STEPS, ids=lambda step: step[1])
def test_faults_of_a_deployment_to_a_standing_endpoint(
    step: tuple[str, str],
    kind: str | int,
    tuned: Tuned,
    tuned_session: Session,
    through: Session,
    proxy: FlakyProxy,
    truth: Truth,
    standing: str,
) -> None:
    _with_fault(step, kind, tuned, tuned_session, through, proxy, truth, standing)


def _with_fault(
    step: tuple[str, str],
    kind: str | int,
    tuned: Tuned,
    tuned_session: Session,
    through: Session,
    proxy: FlakyProxy,
    truth: Truth,
    standing: str | None,
) -> None:
    before = truth.names()
    plan = plan_deployment(through, tuned.job.final_checkpoint_uri, machine_type=MACHINE, endpoint=standing)
    # Longer than what is sent once is repeated: the service is gone for the rest of the deployment.
    proxy.faults.append(Fault(*step, kind, times=8))
    try:
        made = deploy(through, plan, poll=0.2)
    except RunnerError:
        proxy.faults.clear()
        _clean_up(tuned_session, truth, before, f"{step} {kind}")
    else:
        # The answer was lost, and the endpoint found all the same.
        assert len(made.deployed_models) == 1
        proxy.faults.clear()
        undeploy(tuned_session, made, delete=standing is None)
        assert truth.names() == before


def test_a_failing_container_leaves_nothing(
    tuned: Tuned, tuned_session: Session, truth: Truth, standing: str, state: Path
) -> None:
    before = truth.names()
    folder = f"gs://{tuned.environment.outputs_bucket}/broken"
    uploads.upload_bytes(tuned_session, b"no weights", f"{folder}/model.safetensors")
    uploads.upload_bytes(tuned_session, b'{"model_type": "llama"}', f"{folder}/config.json")
    plan = plan_deployment(tuned_session, folder, machine_type=MACHINE, endpoint=standing)
    with pytest.raises(GoogleApiError):
        deploy(tuned_session, plan, poll=0.2)
    assert truth.names() == before
    assert list((state / "deployments").iterdir()) == []


def test_one_that_nobody_waited_for_is_finished_by_the_next_command(
    tuned: Tuned, tuned_session: Session, truth: Truth, emulator: EmulatorServer
) -> None:
    before = truth.names()
    slow = emulator.emulator.faults.add(faults.parse("deployment:slow,match=unwaited"))
    source = tuned.job.final_checkpoint_uri
    plan = plan_deployment(tuned_session, source, machine_type=MACHINE, display_name="unwaited")
    try:
        with pytest.raises(WaitTimeoutError) as timed_out:
            deploy(tuned_session, plan, timeout=0.0, poll=0.05)
        assert "to deploy again would create another one" in str(timed_out.value.hint)
        assert [item.outcome for item in recover(tuned_session)] == ["pending"]
    finally:
        emulator.emulator.faults.clear(slow.id)
    assert slow.hits == 1
    deadline = time.monotonic() + 60
    while (done := recover(tuned_session, poll=0.2)) and done[0].outcome == "pending":
        assert time.monotonic() < deadline
        time.sleep(0.2)
    [result] = done
    assert result.outcome == "finished"
    made = endpoints.get_endpoint(tuned_session, result.record.endpoint)
    assert made.labels["managed-by"] == "open-model-tuning-runner"
    assert recover(tuned_session) == []
    undeploy(tuned_session, made, delete=True)
    assert truth.names() == before


def test_one_that_begins_to_serve_while_it_is_looked_at_is_finished(
    tuned: Tuned, tuned_session: Session, through: Session, proxy: FlakyProxy, truth: Truth, emulator: EmulatorServer
) -> None:
    before = truth.names()
    slow = emulator.emulator.faults.add(faults.parse("deployment:slow,match=unwaited"))
    source = tuned.job.final_checkpoint_uri
    plan = plan_deployment(tuned_session, source, machine_type=MACHINE, display_name="unwaited")
    accepted = deploy(tuned_session, plan, wait=False)

    def begin_to_serve() -> None:
        emulator.emulator.faults.clear(slow.id)
        deadline = time.monotonic() + 60
        while not any("/deployedModels/" in name for name in truth.names() - before):
            assert time.monotonic() < deadline
            time.sleep(0.05)

    # Between its first look and its second, whatever it looks at.
    proxy.faults.append(Fault("GET", r"/(operations|endpoints)/", "pass", before=begin_to_serve))
    outcomes = [item.outcome for _ in range(2) for item in recover(through)]
    assert proxy.faults[0].times == 0
    assert outcomes == ["pending", "finished"]
    undeploy(tuned_session, accepted.name, delete=True)
    assert truth.names() == before


def test_a_deployment_killed_after_its_model_serves_is_finished(
    tuned: Tuned, tuned_session: Session, truth: Truth, standing: str
) -> None:
    before = truth.names()
    source = tuned.job.final_checkpoint_uri
    first = deploy(
        tuned_session, plan_deployment(tuned_session, source, machine_type=MACHINE, endpoint=standing), poll=0.2
    )
    [old] = first.deployed_models
    second = plan_deployment(tuned_session, source, machine_type=MACHINE, endpoint=standing, percent=10)
    both = deploy(tuned_session, second, poll=0.2)
    [new] = [item for item in both.deployed_models if item.id != old.id]
    assert both.traffic == {old.id: 90, new.id: 10}
    entry = journal.begin(
        DeploymentRecord(
            id="omt-killed",
            parent=tuned_session.environment.parent,
            endpoint=first.name,
            own_endpoint=False,
            model=new.model,
            deployed_model=new.id,
            replaces=[old.id],
            replaced_models=[old.model],
            labels=dict(new.labels),
        )
    )
    assert recover(tuned_session) == [], "a process holds it"
    entry.mark("deployed")
    entry.release()
    assert [result.outcome for result in recover(tuned_session)] == ["finished"]
    now = endpoints.get_endpoint(tuned_session, standing)
    assert [item.id for item in now.deployed_models] == [new.id]
    assert now.traffic == {new.id: 100}
    undeploy(tuned_session, now)
    assert truth.names() == before


def test_a_torn_record_is_of_a_deployment_that_sent_nothing(tuned_session: Session, state: Path) -> None:
    (state / "deployments").mkdir(parents=True)
    for name, content in (("a", b""), ("b", b'{"id":"b","par')):
        (state / "deployments" / f"{name}.jsonl").write_bytes(content)
    assert recover(tuned_session) == []
    assert list((state / "deployments").iterdir()) == []


def test_the_next_command_removes_what_a_killed_one_left(
    tuned: Tuned, tuned_session: Session, truth: Truth, state: Path
) -> None:
    before = truth.names()
    parent = tuned_session.environment.parent
    upload = endpoints.upload_model(
        tuned_session, display_name="left", gcs_uri="gs://bucket/w", container={}, model_id="omt-left-behind"
    )
    operations.wait(tuned_session, upload, timeout=30)
    record = DeploymentRecord(
        id="omt-left-behind",
        parent=parent,
        endpoint=f"{parent}/endpoints/omt-left-behind",
        own_endpoint=True,
        model=f"{parent}/models/omt-left-behind",
        time=time.time() - 3600,
    )
    entry = journal.begin(record)
    entry.mark("sent")
    entry.release()
    variables = _variables(tuned, state)
    listed = process("leaks", "--format", "json", stdin="", timeout=60, **variables)
    assert [leak["kind"] for leak in listed.document] == ["unfinished deployment"]
    warned = process("endpoints", "ls", stdin="", timeout=60, **variables)
    assert "`runner leaks --clean` resolves it" in warned.err
    assert truth.names() != before, "commands that read change nothing"
    refused = process("endpoints", "deploy", tuned.job.id, stdin="", timeout=60, **variables)
    assert refused.code == 7, refused.err
    assert "removed what it left" in refused.err
    assert truth.names() == before


def test_an_endpoint_that_appears_after_its_model_is_not_forgotten(
    tuned: Tuned, tuned_session: Session, through: Session, proxy: FlakyProxy, truth: Truth, state: Path
) -> None:
    before = truth.names()
    parent = tuned_session.environment.parent
    identity = "omt-appears-late"
    record = DeploymentRecord(
        id=identity,
        parent=parent,
        endpoint=f"{parent}/endpoints/{identity}",
        own_endpoint=True,
        model=f"{parent}/models/{identity}",
    )
    entry = journal.begin(record)
    entry.mark("sent")
    endpoints.deploy_custom_model(
        tuned_session,
        tuned.job.final_checkpoint_uri,
        display_name=identity,
        endpoint_id=identity,
        model_id=identity,
    )
    entry.release()
    # The service shows the model already, the endpoint not yet.
    proxy.faults.append(Fault("GET", rf"/endpoints/{identity}$", 404, times=2))
    assert [item.outcome for item in recover(through, timeout=0, settle=60)] == ["pending"]
    deadline = time.monotonic() + 60
    while recover(through, timeout=1, poll=0.2, settle=3)[0].outcome == "pending":
        assert time.monotonic() < deadline
    assert recover(through) == []
    assert truth.names() == before
