"""What a deployment does when the service has no quota or no machine, or the container crashes or is slow.

Each ends with the exit code that docs/errors.md promises, with the service's reason, and with nothing left.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runner.emulator import faults
from runner.emulator.server import EmulatorServer
from runner.errors import GoogleApiError
from runner.gcp import uploads
from runner.gcp.session import Session
from runner.serving.deployment import deploy, undeploy
from runner.serving.leaks import find_leaks
from runner.serving.plan import plan_deployment
from runner.serving.recovery import recover
from tests.cli.invocation import Outcome, process
from tests.projects import Tuned
from tests.serving.conftest import MACHINE, Truth
from tests.serving.test_leases import _variables

pytestmark = pytest.mark.training

Arm = Callable[[str], faults.Fault]


@pytest.fixture
def arm(emulator: EmulatorServer) -> Iterator[Arm]:
    """Arm a fault of deployments called `hurt`; each must have struck by the end of the test."""
    armed: list[faults.Fault] = []

    def add(text: str) -> faults.Fault:
        armed.append(emulator.emulator.faults.add(faults.parse(f"deployment:{text},match=hurt")))
        return armed[-1]

    yield add
    for fault in armed:
        emulator.emulator.faults.clear(fault.id)
    assert [fault.text for fault in armed if not fault.hits] == []


def _deploy(tuned: Tuned, state: Path, *options: str) -> Outcome:
    return process(
        *("endpoints", "deploy", tuned.job.final_checkpoint_uri, "--machine-type", MACHINE, "--name", "hurt"),
        *("--yes", "--format", "json", *options),
        timeout=120,
        **_variables(tuned, state),
    )


@pytest.mark.parametrize(
    ("fault", "code", "error", "message"),
    [
        ("fail=quota", 75, "quota_exceeded", "custom_model_serving_nvidia_l4_gpus"),
        ("fail=capacity", 75, "quota_exceeded", "g2-standard-12 is temporarily unavailable"),
        ("fail=crash", 4, "google_api", "exited unexpectedly"),
    ],
)
def test_a_deployment_that_the_service_ends(
    fault: str, code: int, error: str, message: str, arm: Arm, tuned: Tuned, truth: Truth, state: Path, standing: str
) -> None:
    before = truth.names()
    arm(fault)
    outcome = _deploy(tuned, state, *(["--endpoint", standing] if fault == "fail=capacity" else []))
    assert (outcome.code, outcome.error["code"]) == (code, error), outcome.err
    assert message in outcome.error["message"]
    assert truth.names() == before
    assert list((state / "deployments").iterdir()) == []


def test_a_container_that_crashes_once_is_started_again(
    arm: Arm, tuned: Tuned, tuned_session: Session, truth: Truth, state: Path
) -> None:
    before = truth.names()
    arm("fail=crash,times=1")
    source = tuned.job.final_checkpoint_uri
    made = deploy(tuned_session, plan_deployment(tuned_session, source, display_name="hurt"), poll=0.2)
    assert len(made.deployed_models) == 1
    undeploy(tuned_session, made, delete=True)
    assert truth.names() == before


def test_a_slow_start_is_not_waited_for_for_ever_and_finished_later(
    arm: Arm, tuned: Tuned, tuned_session: Session, truth: Truth, state: Path, emulator: EmulatorServer
) -> None:
    before = truth.names()
    slow = arm("slow,times=1")
    outcome = _deploy(tuned, state, "--timeout", "0s")
    assert (outcome.code, outcome.error["code"]) == (6, "wait_timeout"), outcome.err
    assert "it continues" in outcome.error["message"]
    [leak] = find_leaks(tuned_session)
    assert leak.kind == "unfinished deployment"
    emulator.emulator.faults.clear(slow.id)
    deadline = time.monotonic() + 60
    while (done := recover(tuned_session, poll=0.2)) and done[0].outcome == "pending":
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert [item.outcome for item in done] == ["finished"]
    assert find_leaks(tuned_session) == []
    undeploy(tuned_session, done[0].record.endpoint, delete=True)
    assert truth.names() == before


def test_a_model_that_cannot_be_loaded_is_reported_at_once_with_its_reason(
    tuned: Tuned, tuned_session: Session, truth: Truth, state: Path
) -> None:
    before = truth.names()
    folder = f"gs://{tuned.environment.outputs_bucket}/unloadable"
    uploads.upload_bytes(tuned_session, b"no weights", f"{folder}/model.safetensors")
    uploads.upload_bytes(tuned_session, b'{"model_type": "llama"}', f"{folder}/config.json")
    with pytest.raises(
        GoogleApiError, match=r"exited unexpectedly with code 1: The checkpoint has no tokenizer"
    ) as caught:
        deploy(tuned_session, plan_deployment(tuned_session, folder), poll=0.2)
    assert caught.value.status != "UNAVAILABLE", "it was started once: another start would not help"
    assert truth.names() == before
    assert list((state / "deployments").iterdir()) == []
