"""Deployments whose journal cannot be written: an error that names the file, and nothing is left on the service."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.errors import DiskError
from runner.gcp.session import Session
from runner.serving import journal, recovery
from runner.serving.deployment import deploy
from runner.serving.journal import DeploymentRecord
from runner.serving.leaks import clean, find_leaks
from runner.serving.plan import plan_deployment
from tests.gcp.flaky import Fault, FlakyProxy
from tests.projects import Tuned
from tests.serving.conftest import MACHINE, Truth
from tests.serving.test_leases import _variables

pytestmark = pytest.mark.training


@pytest.fixture
def small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A state directory on a file system of 64 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(place)]
    try:
        mounted = subprocess.run(mounting, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("nothing can be mounted here")
    monkeypatch.setenv("RUNNER_STATE_DIR", str(place))
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def _fill(place: Path) -> None:
    with (place / "ballast").open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="limits of a running process are set by Linux only")
@pytest.mark.parametrize("step", [("POST", r":deploy$"), ("PATCH", r"/models/")], ids=["accepted", "deployed"])
def test_a_deployment_that_cannot_be_written_down_is_undone(
    step: tuple[str, str], tuned: Tuned, tuned_session: Session, proxy: FlakyProxy, truth: Truth, state: Path
) -> None:
    """The file may not grow any more while the service answers, so what follows cannot be written (EFBIG)."""
    before = truth.names()
    child: subprocess.Popen[str]

    def limit() -> None:
        [path] = (state / "deployments").iterdir()
        resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (path.stat().st_size + 3,) * 2)

    proxy.faults.append(Fault(*step, "pass", before=limit))
    source = tuned.job.final_checkpoint_uri
    command = ["endpoints", "deploy", source, "--machine-type", MACHINE, "--yes", "--format", "json"]
    variables = {**os.environ, **_variables(tuned, state), "RUNNER_VERTEX_URL": proxy.url}
    child = subprocess.Popen(
        [sys.executable, "-m", "runner", *command],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=variables,
        cwd=Path(__file__).parents[2],
    )
    _, err = child.communicate(timeout=240)
    assert child.returncode == 74, err
    error = json.loads(err.splitlines()[-1])["error"]
    assert (error["code"], Path(error["path"]).parent) == ("disk", state / "deployments")
    assert error["message"].endswith("File too large")
    assert "removed" in error["hint"]
    deadline = time.monotonic() + 60
    while truth.names() != before:
        clean(tuned_session, find_leaks(tuned_session))
        assert time.monotonic() < deadline
    clean(tuned_session, find_leaks(tuned_session))
    assert list((state / "deployments").iterdir()) == []


def test_nothing_is_sent_when_the_disk_is_full(
    tuned: Tuned, tuned_session: Session, truth: Truth, small_disk: Path
) -> None:
    before = truth.names()
    plan = plan_deployment(tuned_session, tuned.job.final_checkpoint_uri, machine_type=MACHINE)
    (small_disk / "deployments").mkdir()
    _fill(small_disk)
    with pytest.raises(DiskError, match="No space left on device") as caught:
        deploy(tuned_session, plan)
    assert "nothing was deployed" in str(caught.value.hint)
    assert truth.names() == before
    assert list((small_disk / "deployments").iterdir()) == []


def test_a_journal_that_can_only_be_read_is_recovered_from(
    tuned: Tuned, tuned_session: Session, truth: Truth, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "SETTLE_SECONDS", 0.0)
    before = truth.names()
    parent = tuned.environment.parent
    tuned_session.http.post(
        f"/v1beta1/{parent}/endpoints", params={"endpointId": "left-over"}, json={"displayName": "x"}
    )
    entry = journal.begin(
        DeploymentRecord(
            id="left-over",
            parent=parent,
            endpoint=f"{parent}/endpoints/left-over",
            own_endpoint=True,
            model=f"{parent}/models/left-over",
        )
    )
    entry.mark("sent")
    entry.release()
    assert truth.names() != before
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    deadline = time.monotonic() + 60
    while truth.names() != before:
        recovery.recover(tuned_session, timeout=5, poll=0.2)
        assert time.monotonic() < deadline
    assert [item.outcome for item in recovery.recover(tuned_session, timeout=1, poll=0.2)][-1:] in (
        ["nothing"],
        ["pending"],
    )
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    recovery.recover(tuned_session, timeout=5, poll=0.2)
    assert list((small_disk / "deployments").iterdir()) == []


def test_a_line_after_a_torn_one_is_read(state: Path) -> None:
    """A process that could write half a line only, and one that goes on: both marks of it count."""
    record = DeploymentRecord(id="torn", parent="p", endpoint="p/e", own_endpoint=True, model="p/m")
    entry = journal.begin(record)
    with entry.path.open("ab") as file:
        file.write(b'{"phase":"se')
    entry.mark("accepted", "an-operation")
    entry.release()
    with journal.abandoned("p") as found:
        assert [(one.record.phase, one.record.operation) for one in found] == [("accepted", "an-operation")]
        found[0].close()
    assert list((state / "deployments").iterdir()) == []
