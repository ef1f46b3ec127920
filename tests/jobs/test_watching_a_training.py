"""Following jobs: what is reported, what is endured, and how it ends."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from runner.errors import (
    GoogleApiError,
    JobFailedError,
    NotFoundError,
    QuotaExceededError,
    UnreachableError,
    WaitTimeoutError,
)
from runner.gcp import events, failures, storage, tuning_jobs, uploads
from runner.gcp.session import Session
from runner.jobs.following import watching
from runner.jobs.outputs import checkpoints
from runner.jobs.specification import TuningJobSpec
from runner.jobs.submitting import submission
from tests.gcp.flaky import Fault, FlakyProxy
from tests.projects import MODEL, Tuned, upload_dataset

GET_JOB = r"/tuningJobs/\d+$"
EVENTS = r"^/_emulator/"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the pauses between tries."""
    monkeypatch.setattr(failures, "FIRST_PAUSE_SECONDS", 0.01)


@pytest.mark.training
def test_a_watched_job_tells_its_whole_story(tuned: Tuned) -> None:
    job, updates = tuned.job, tuned.updates
    assert job.succeeded
    assert updates[0].state_changed
    assert updates[-1].job.state == "JOB_STATE_SUCCEEDED"
    told = [event for update in updates for event in update.events]
    assert [event.number for event in told] == list(range(1, len(told) + 1))
    losses = [event.data["loss"] for event in told if event.kind == "step"]
    assert len(losses) == int(job.data_stats["tuningStepCount"])
    assert losses[-1] < losses[0]
    assert [event.data["id"] for event in told if event.kind == "checkpoint"] == ["1", "2"]
    assert all(event.time.endswith("Z") for event in told)


@pytest.mark.training
def test_the_document_of_an_ended_job(tuned: Tuned, tuned_session: Session) -> None:
    job = tuning_jobs.get(tuned_session, tuned.job.name)
    assert job == tuned.job
    assert job.start_time is not None
    assert job.end_time is not None
    assert job.end_time > job.start_time
    assert job.data_stats["tuningDatasetExampleCount"] == "16"
    assert job.emulator["standIn"]
    body = job.to_json()
    assert body["finalCheckpointUri"] == f"{job.output_uri}/postprocess/node-0/checkpoints/final"
    assert body["state"] == "JOB_STATE_SUCCEEDED"
    assert [(item.id, item.epoch) for item in job.checkpoints] == [("1", 1), ("2", 2)]
    updates = list(watching.watch(tuned_session, job.id))
    assert [update.job.state for update in updates] == ["JOB_STATE_SUCCEEDED"]


@pytest.mark.training
def test_checkpoints_and_their_download(tuned: Tuned, tuned_session: Session, tmp_path: Path) -> None:
    found = checkpoints.list_checkpoints(tuned_session, tuned.job.id)
    assert [item.id for item in found] == ["1", "2", "final"]
    assert all(item.size > 100_000 and item.files > 3 for item in found)
    final = checkpoints.find_checkpoint(tuned_session, tuned.job)
    assert final.uri == tuned.job.final_checkpoint_uri
    seen: list[tuple[int, int]] = []
    paths = checkpoints.download(tuned_session, final, tmp_path, progress=lambda *numbers: seen.append(numbers))
    assert seen[-1] == (final.size, final.size)
    names = {str(path.relative_to(tmp_path)) for path in paths}
    assert {"config.json", "tokenizer.json", "adapter/adapter_model.safetensors"} <= names
    stored = {item.uri: item.crc32c for item in storage.list_objects(tuned_session, final.uri + "/")}
    assert {f"{final.uri}/{path.relative_to(tmp_path)}": storage.crc32c_of(path) for path in paths} == stored
    with pytest.raises(NotFoundError, match="there: 1, 2, final"):
        checkpoints.find_checkpoint(tuned_session, tuned.job, "7")


@pytest.mark.training
@pytest.mark.usefixtures("quick")
def test_a_watch_outlives_an_outage(tuned: Tuned, proxy: FlakyProxy) -> None:
    environment = dataclasses.replace(tuned.environment, vertex_url=proxy.url)
    with Session(environment) as opened:
        # The first look succeeds, but the job seems to run on: the state in the answer is replaced.
        proxy.rewrites.append((b"JOB_STATE_SUCCEEDED", b"JOB_STATE_RUNNING", 1))
        proxy.faults.append(Fault("GET", GET_JOB, "lose answer", times=7, skip=1))
        updates = list(watching.watch(opened, tuned.job.id, poll=0.05))
    assert updates[-1].job.succeeded
    problems = [update.problem for update in updates if update.problem]
    assert problems
    assert "tuningJobs.get" in problems[0]


@pytest.mark.training
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("kind", "error"), [("lose answer", UnreachableError), (429, QuotaExceededError)])
def test_patience_ends(kind: str | int, error: type[Exception], tuned: Tuned, proxy: FlakyProxy) -> None:
    environment = dataclasses.replace(tuned.environment, vertex_url=proxy.url)
    proxy.rewrites.append((b"JOB_STATE_SUCCEEDED", b"JOB_STATE_RUNNING", 1))
    proxy.faults.append(Fault("GET", GET_JOB, kind, times=10_000, skip=1))
    with Session(environment) as opened, pytest.raises(error):
        list(watching.watch(opened, tuned.job.id, poll=0.05, patience=0.3))


@pytest.mark.training
@pytest.mark.parametrize("status", [404, 501])
def test_a_service_without_events(status: int, tuned: Tuned, proxy: FlakyProxy) -> None:
    proxy.faults.append(Fault("GET", EVENTS, status, times=10_000))
    with Session(dataclasses.replace(tuned.environment, vertex_url=proxy.url)) as opened:
        assert events.job_events(opened, tuned.job.name) == []
        updates = list(watching.watch(opened, tuned.job.id))
    assert [update.events for update in updates] == [()]


@pytest.mark.training
def test_reads_are_repeated_and_creates_are_not(
    tuned: Tuned, proxy: FlakyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failures, "FIRST_PAUSE_SECONDS", 0.01)
    with Session(dataclasses.replace(tuned.environment, vertex_url=proxy.url)) as opened:
        proxy.faults.append(Fault("GET", GET_JOB, 503, times=2))
        assert tuning_jobs.get(opened, tuned.job.id).id == tuned.job.id
        assert proxy.count("GET", GET_JOB) == 3
        proxy.faults.append(Fault("GET", r"/tuningJobs\?", "lose answer", times=1))
        assert tuned.job.id in [job.id for job in tuning_jobs.list_jobs(opened)]
        proxy.faults.append(Fault("POST", r"/tuningJobs$", 503, times=5))
        with pytest.raises(GoogleApiError, match="injected"):
            tuning_jobs.create(opened, {"base_model": MODEL, "training_dataset": "gs://b/x"})
        assert proxy.count("POST", r"/tuningJobs$") == 1


def test_a_job_that_does_not_exist(session: Session) -> None:
    for function in (tuning_jobs.get, tuning_jobs.cancel, lambda *given: list(watching.watch(*given))):
        with pytest.raises(NotFoundError):
            function(session, "4711")


@pytest.mark.usefixtures("state_directory")
def test_timeout_failure_and_cancellation(session: Session) -> None:
    spec = TuningJobSpec(base_model=MODEL, training_dataset=upload_dataset(session, 400), epochs=50)
    job = submission.submit(session, spec)
    with pytest.raises(WaitTimeoutError, match="continues"):
        watching.wait(session, job.id, 0.3, poll=0.1)
    assert not tuning_jobs.get(session, job.id).ended
    waiting = submission.submit(session, dataclasses.replace(spec, epochs=49))
    assert [item.id for item in tuning_jobs.list_jobs(session, limit=1)] == [waiting.id]
    assert len(tuning_jobs.list_jobs(session)) == 2
    for item in (waiting, job):
        tuning_jobs.cancel(session, item.id)
        tuning_jobs.cancel(session, item.id)
        with pytest.raises(JobFailedError) as caught:
            watching.wait(session, item.id, 60, poll=0.2)
        assert caught.value.state == "JOB_STATE_CANCELLED"
    filtered = tuning_jobs.list_jobs(session, filter='state="JOB_STATE_CANCELLED"')
    assert {item.id for item in filtered} == {job.id, waiting.id}


@pytest.mark.usefixtures("state_directory")
def test_a_failed_job_says_why(session: Session) -> None:
    uri = f"gs://{session.environment.datasets_bucket}/broken.jsonl"
    uploads.upload_bytes(session, b"this is no JSON\n", uri)
    job = submission.submit(session, TuningJobSpec(base_model=MODEL, training_dataset=uri))
    with pytest.raises(JobFailedError) as caught:
        watching.wait(session, job.id, 120, poll=0.2)
    assert caught.value.state == "JOB_STATE_FAILED"
    failed = tuning_jobs.get(session, job.id)
    assert failed.error_message
    assert failed.error_message in caught.value.message


@pytest.mark.parametrize(
    ("state", "ended", "succeeded"),
    [
        ("JOB_STATE_QUEUED", False, False),
        ("JOB_STATE_CANCELLING", False, False),
        ("JOB_STATE_PAUSED", False, False),
        ("JOB_STATE_NEVER_HEARD_OF", False, False),
        ("JOB_STATE_SUCCEEDED", True, True),
        ("JOB_STATE_PARTIALLY_SUCCEEDED", True, True),
        ("JOB_STATE_FAILED", True, False),
        ("JOB_STATE_EXPIRED", True, False),
    ],
)
def test_states(state: str, ended: bool, succeeded: bool) -> None:
    job = tuning_jobs.from_document({"name": "projects/1/locations/l/tuningJobs/2", "state": state, "new": 1})
    assert (job.ended, job.succeeded) == (ended, succeeded)
    assert job.raw["new"] == 1
    assert tuning_jobs.from_document({}).state == "JOB_STATE_UNSPECIFIED"
