"""Without a written claim nothing is sent, only the service's clock counts, and a folder has one job."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.errors import (
    AmbiguousSubmissionError,
    ConfigurationError,
    GoogleApiError,
    NotFoundError,
    OutputTakenError,
    PermissionDeniedError,
)
from runner.gcp import storage, tuning_jobs, uploads
from runner.gcp.session import Session
from runner.jobs.outputs import checkpoints, ownership, pruning
from runner.jobs.outputs.run_manifest import manifest_uri
from runner.jobs.specification import TuningJobSpec
from runner.jobs.submitting import claims
from runner.jobs.submitting.ledger import Ledger
from runner.jobs.submitting.submission import submit, submit_once
from runner.serving.plan import resolve_source
from tests.gcp.flaky import Fault, FlakyProxy
from tests.jobs.manifests.folder import MODEL, jobs_of
from tests.jobs.submitting import processes as submitting
from tests.projects import upload_dataset

CREATE = r"/tuningJobs$"


@pytest.fixture
def spec(session: Session) -> TuningJobSpec:
    return TuningJobSpec(base_model=MODEL, training_dataset=upload_dataset(session), epochs=1)


def _ended(session: Session, job_id: str) -> None:
    tuning_jobs.cancel(session, job_id)
    while not tuning_jobs.get(session, job_id).ended:
        time.sleep(0.05)


def _leave_results(session: Session, output: str, name: str = "checkpoint-1/model.safetensors") -> str:
    uri = f"{output}/{ownership.FOLDER}/{name}"
    uploads.upload_bytes(session, b"weights", uri)
    return uri


@pytest.mark.parametrize(("http", "kind"), [(403, PermissionDeniedError), (404, NotFoundError)])
@pytest.mark.parametrize("request_", [r"uploadType=multipart", r"GET .*runner-manifest"])
def test_a_claim_that_cannot_be_written_is_no_claim(
    http: int, kind: type[GoogleApiError], request_: str, session: Session, proxy: FlakyProxy, spec: TuningJobSpec
) -> None:
    environment = dataclasses.replace(session.environment, vertex_url=proxy.url, storage_url=proxy.url)
    method = "GET" if request_.startswith("GET") else "POST"
    path = "runner-manifest" if method == "GET" else request_
    proxy.faults.append(Fault(method, path, http, times=10))
    with Session(environment) as opened, pytest.raises(kind, match="cannot be claimed") as caught:
        submit_once(opened, spec)
    assert "roles/storage.objectUser" in str(caught.value.hint) or "buckets create" in str(caught.value.hint)
    assert jobs_of(session) == []


@pytest.mark.parametrize("jump", [-86400.0, 86400.0, 120.0])
def test_a_clock_that_is_moved_repeats_nothing(
    jump: float,
    session: Session,
    through_proxy: Session,
    proxy: FlakyProxy,
    spec: TuningJobSpec,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(claims, "LOOKUP_SECONDS", 0.3)
    proxy.faults.append(Fault("POST", CREATE, "lose request"))
    with pytest.raises(AmbiguousSubmissionError):
        submit(through_proxy, spec)
    # In a process of its own: the emulator of the tests has this one's clock.
    queue = submitting.answers()
    for _ in range(2):
        process = submitting.start(session.environment, spec, queue, jump=jump)
        assert queue.get(timeout=60) == ("ambiguous_submission", False)
        process.join(30)
    assert jobs_of(session) == []


def test_a_lost_claim_begins_the_wait_again(
    session: Session,
    through_proxy: Session,
    proxy: FlakyProxy,
    spec: TuningJobSpec,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing says when the create was sent: somebody has deleted the run manifest."""
    monkeypatch.setattr(claims, "LOOKUP_SECONDS", 0.3)
    wanted = dataclasses.replace(spec, output_uri=f"gs://{session.environment.outputs_bucket}/mine")
    proxy.faults.append(Fault("POST", CREATE, "lose request"))
    with pytest.raises(AmbiguousSubmissionError):
        submit(through_proxy, wanted)
    place = manifest_uri(wanted.output_uri or "")
    uploads.delete(session, place, storage.existing(session, place).generation)
    for _ in range(2):
        with pytest.raises(AmbiguousSubmissionError, match="answer lost"):
            submit(session, wanted)
    monkeypatch.setattr(claims, "SETTLE_SECONDS", -5.0)
    assert submit_once(session, wanted).created
    assert len(jobs_of(session)) == 1


def test_a_takeover_that_is_cut_off_waits_no_second_time(
    session: Session,
    through_proxy: Session,
    proxy: FlakyProxy,
    spec: TuningJobSpec,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(claims, "LOOKUP_SECONDS", 0.3)
    proxy.faults.append(Fault("POST", CREATE, "lose request"))
    with pytest.raises(AmbiguousSubmissionError):
        submit(through_proxy, spec)
    monkeypatch.setattr(claims, "SETTLE_SECONDS", -5.0)

    def killed(ledger: Ledger, *_: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "intend", killed)
        with pytest.raises(KeyboardInterrupt):
            submit(session, spec)
    assert jobs_of(session) == []
    assert submit_once(session, spec).created


def test_a_folder_has_one_job(session: Session, spec: TuningJobSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    output = f"gs://{session.environment.outputs_bucket}/shared"
    first = submit(session, dataclasses.replace(spec, output_uri=output))
    other = dataclasses.replace(spec, output_uri=output + "/", epochs=2)
    for force in (False, True):
        with pytest.raises(OutputTakenError, match=f"job {first.id}, which has not ended"):
            submit_once(session, other, replace_output=force)
    _ended(session, first.id)
    kept = _leave_results(session, output)
    with pytest.raises(OutputTakenError, match="belongs to another job") as caught:
        submit(session, other)
    assert "--replace-output" in str(caught.value.hint)
    assert storage.exists(session, kept)
    with pytest.raises(OutputTakenError):  # a new attempt of the same work is another job, too
        submit(session, dataclasses.replace(spec, output_uri=output), force_new=True)
    second = submit_once(session, other, replace_output=True)
    assert second.created
    assert not storage.exists(session, kept)
    assert len(jobs_of(session)) == 2


def test_a_claim_that_nothing_came_of_is_no_hindrance(
    session: Session, spec: TuningJobSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = f"gs://{session.environment.outputs_bucket}/shared"
    first = submit(session, dataclasses.replace(spec, output_uri=output))
    _ended(session, first.id)
    assert submit_once(session, dataclasses.replace(spec, output_uri=output, epochs=2)).created


def test_results_without_a_run_manifest_are_kept(session: Session, spec: TuningJobSpec) -> None:
    output = f"gs://{session.environment.outputs_bucket}/unknown"
    kept = _leave_results(session, output)
    with pytest.raises(OutputTakenError):
        submit(session, dataclasses.replace(spec, output_uri=output))
    assert storage.exists(session, kept)
    assert jobs_of(session) == []


def test_only_what_a_job_wrote_is_its_own(session: Session, spec: TuningJobSpec) -> None:
    output = f"gs://{session.environment.outputs_bucket}/shared"
    first = submit(session, dataclasses.replace(spec, output_uri=output))
    _leave_results(session, output)
    assert [item.id for item in checkpoints.list_checkpoints(session, first.id)] == ["1"]
    _ended(session, first.id)
    second = submit_once(session, dataclasses.replace(spec, output_uri=output, epochs=2), replace_output=True).job
    _leave_results(session, output)
    for use in (checkpoints.list_checkpoints, checkpoints.find_checkpoint, lambda s, j: resolve_source(s, j, "1")):
        with pytest.raises(OutputTakenError, match=f"job {second.id} has written"):
            use(session, first.id)
    assert [item.id for item in checkpoints.list_checkpoints(session, second.id)] == ["1"]
    assert resolve_source(session, second.id, "1").endswith("checkpoint-1")
    with pytest.raises(ConfigurationError, match="uses the same output folder"):
        pruning.plan(session, tuning_jobs.get(session, first.id))


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _deep(path: Path) -> None:
    path.write_text('{"kind":' + "[" * 100_000 + "}\n")


def _wrong(path: Path) -> None:
    path.write_text(json.dumps({"kind": 1, "fingerprint": [], "parent": {}}) + "\n")


def _list(path: Path) -> None:
    path.write_text('[{"kind": "intent"}]}\n')


@pytest.mark.parametrize("damage", [_fifo, _deep, _wrong, _list])
def test_a_damaged_ledger_is_named_and_nothing_is_sent(
    damage: Callable[[Path], None], session: Session, spec: TuningJobSpec, state_directory: Path
) -> None:
    state_directory.mkdir(parents=True, exist_ok=True)
    damage(state_directory / "submissions.jsonl")
    with pytest.raises(ConfigurationError, match=r"submissions\.jsonl") as caught:
        submit(session, spec)
    assert "runner repair" in str(caught.value.hint)
    assert jobs_of(session) == []


def test_numbers_that_are_equal_are_one_job(session: Session, spec: TuningJobSpec) -> None:
    first = submit(session, dataclasses.replace(spec, learning_rate=1))
    assert submit(session, dataclasses.replace(spec, learning_rate=1.0)).id == first.id
