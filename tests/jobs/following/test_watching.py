"""Watching jobs through the emulator's faults: what is endured, what ends a watch, and how."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from pathlib import Path

import httpx
import pytest

from runner.errors import (
    GoogleApiError,
    JobFailedError,
    JobStalledError,
    PermissionDeniedError,
    QuotaExceededError,
    UnreachableError,
    WaitTimeoutError,
)
from runner.gcp import tuning_jobs
from runner.gcp.session import Session
from runner.gcp.tuning_jobs import TuningJob
from runner.jobs.following import watching
from runner.jobs.specification import TuningJobSpec
from runner.jobs.submitting import submission
from tests.faulty import FaultyEmulator
from tests.projects import MODEL, environment_of, upload_dataset
from tests.provisioning import Provisioned

pytestmark = pytest.mark.usefixtures("state_directory", "quick")


def submitted(session: Session, name: str = "a-job", **fields: int) -> TuningJob:
    uri = upload_dataset(session, name=f"{name}.jsonl")
    spec = TuningJobSpec(base_model=MODEL, training_dataset=uri, display_name=name, **fields)  # type: ignore[arg-type]
    return submission.submit(session, spec)


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("tuningJobs.get:status=503,skip=1,times=9", "currently unavailable"),
        ("tuningJobs.get:status=500,skip=1,times=7", "Internal error"),
        ("tuningJobs.get:status=429,skip=1,times=7", "Resource exhausted"),
        ("tuningJobs.get:drop,skip=1,times=7", "tuningJobs.get"),
        ("emulator.tuningJobs.events:status=503,skip=1,times=7", "tuningJobs.events"),
        ("tuningJobs.get:status=401,skip=1,times=3", "invalid authentication credentials"),
    ],
)
def test_what_passes_is_endured_and_told(fault: str, says: str, faulty: FaultyEmulator, session: Session) -> None:
    faulty.arm("job:quota-wait=1000000", fault)
    job = submitted(session)
    problems: list[str] = []
    for update in watching.watch(session, job.id, poll=0.1, timeout=300):
        if update.problem and not problems:
            faulty.http.post(f"/v1beta1/{job.name}:cancel", json={}).raise_for_status()
        problems += [update.problem] if update.problem else []
    assert problems
    assert says in problems[0]
    assert update.job.state == "JOB_STATE_CANCELLED"
    assert faulty.hits()[1] >= 3


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("tuningJobs.get:status=503,skip=1", GoogleApiError),
        ("tuningJobs.get:status=429,skip=1", QuotaExceededError),
        ("tuningJobs.get:drop,skip=1", UnreachableError),
        ("tuningJobs.get:status=401,skip=1", PermissionDeniedError),
    ],
)
def test_patience_ends(fault: str, error: type[Exception], faulty: FaultyEmulator, session: Session) -> None:
    faulty.arm("job:quota-wait=100000", fault)
    job = submitted(session)
    with pytest.raises(error):
        list(watching.watch(session, job.id, poll=0.05, patience=0.3))


@pytest.mark.parametrize("status", [403, 404, 400])
def test_what_does_not_pass_ends_the_watch_at_once(status: int, faulty: FaultyEmulator, session: Session) -> None:
    faulty.arm("job:quota-wait=100000", f"tuningJobs.get:status={status},skip=1")
    job = submitted(session)
    with pytest.raises(GoogleApiError) as caught:
        list(watching.watch(session, job.id, poll=0.05))
    assert caught.value.http == status


def test_an_expired_login_is_renewed(
    faulty: FaultyEmulator, project: Provisioned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = f"watcher@{project.project}.iam.gserviceaccount.com"
    path = f"/v1/projects/{project.project}/serviceAccounts"
    faulty.http.post(f"/v1/projects/{project.project}/services/iam.googleapis.com:enable", json={}).raise_for_status()
    faulty.http.post(path, json={"accountId": "watcher"}).raise_for_status()
    members = [f"serviceAccount:{account}"]
    policy = {"bindings": [{"role": role, "members": members} for role in ("roles/owner", "roles/storage.admin")]}
    faulty.http.post(f"/v1/projects/{project.project}:setIamPolicy", json={"policy": policy}).raise_for_status()
    key = faulty.http.post(f"{path}/{account}/keys", json={}).json()
    import base64

    body = json.loads(base64.b64decode(key["privateKeyData"]))
    file = tmp_path / "key.json"
    file.write_text(json.dumps({**body, "token_uri": f"{faulty.url}/token"}))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    environment = dataclasses.replace(environment_of(project), token=None)
    faulty.arm("job:quota-wait=1000000", "tuningJobs.get:status=401,skip=1,times=4", "oauth2.token:delay=0")
    refused = 0
    with Session(environment) as session:
        job = submitted(session)
        for update in watching.watch(session, job.id, poll=0.1, timeout=300):
            refused += bool(update.problem)
            if refused == 2:
                faulty.http.post(f"/v1beta1/{job.name}:cancel", json={}).raise_for_status()
    assert update.job.state == "JOB_STATE_CANCELLED"
    struck = faulty.hits()
    assert (struck[1], refused) == (4, 2), "each request is sent once more with a fresh token"
    assert struck[2] >= 3  # the login, and a new one after each refusal


def test_waiting_is_no_stall_and_stalling_is(faulty: FaultyEmulator, session: Session) -> None:
    quota, capacity, _ = faulty.arm("job:quota-wait=1000000", "job:capacity-wait=1000000", "job:stall")
    job = submitted(session)
    ends = {"WAITING_FOR_QUOTA": quota, "WAITING_FOR_CAPACITY": capacity}
    seen: list[str] = []

    def watched() -> None:
        for update in watching.watch(session, job.id, poll=0.1, stall_after=3.0, timeout=300):
            state = update.job.detail_state.removeprefix("TUNING_JOB_STATE_")
            if state in ends and state not in seen:
                # Each wait lasts longer than a stall is given.
                path = f"/_emulator/faults/{ends[state]}"
                threading.Timer(3.5, httpx.delete, [faulty.url + path]).start()
            seen.append(state)

    with pytest.raises(JobStalledError, match="no progress for") as caught:
        watched()
    assert {"WAITING_FOR_QUOTA", "WAITING_FOR_CAPACITY", "TUNING"} <= set(seen)
    assert caught.value.exit_code == 6
    assert not tuning_jobs.get(session, job.id).ended


def test_several_jobs_are_followed_to_their_own_ends(faulty: FaultyEmulator, session: Session) -> None:
    faulty.arm(
        "job:fail=data,match=first", "job:stall,match=second", "job:quota-wait=60", "job:fail=capacity,match=third"
    )
    jobs = [submitted(session, name) for name in ("first", "second", "third")]
    last = {
        update.job.id: update
        for update in watching.watch_many(session, [job.id for job in jobs], poll=0.1, stall_after=4.0, timeout=300)
    }
    assert last[jobs[0].id].job.error_code == 3
    assert last[jobs[1].id].stalled is not None
    assert last[jobs[2].id].job.error_code == 8


def test_the_time_for_all_is_up(faulty: FaultyEmulator, session: Session) -> None:
    faulty.arm("job:quota-wait=100000")
    ids = [submitted(session, name).id for name in ("first", "second")]
    start = time.monotonic()
    with pytest.raises(WaitTimeoutError, match="2 tuning jobs have not ended") as caught:
        list(watching.watch_many(session, ids, poll=0.1, timeout=0.8))
    assert time.monotonic() - start < 100
    assert caught.value.hint == f"`runner jobs wait {ids[0]} {ids[1]}`"


def test_the_requests_of_a_watch_are_bounded(faulty: FaultyEmulator, session: Session) -> None:
    faulty.arm("job:quota-wait=100000", "tuningJobs.get:delay=0")
    job = submitted(session)
    with pytest.raises(WaitTimeoutError):
        list(watching.watch(session, job.id, timeout=4))
    # 0.5, 0.75, 1, 1, … seconds apart.
    assert faulty.hits()[1] <= 7


def test_a_failed_job_names_the_command_that_explains_it(faulty: FaultyEmulator, session: Session) -> None:
    faulty.arm("job:fail=platform")
    job = submitted(session)
    with pytest.raises(JobFailedError, match="Internal error") as caught:
        watching.wait(session, job.id, 200, poll=0.1)
    assert caught.value.hint == f"`runner jobs why {job.id}`"
