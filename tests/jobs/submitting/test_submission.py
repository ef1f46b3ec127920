"""One specification, one job: repeated, concurrent, killed, and with answers lost on the way."""

from __future__ import annotations

import dataclasses
import signal
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest

from runner.errors import (
    AmbiguousSubmissionError,
    ConfigurationError,
    GoogleApiError,
    NotFoundError,
    PermissionDeniedError,
    UnreachableError,
)
from runner.gcp import tuning_jobs, uploads
from runner.gcp.session import Session
from runner.jobs.following import watching
from runner.jobs.labels import FINGERPRINT_LABEL
from runner.jobs.outputs import ownership
from runner.jobs.preflight.obstacles import preflight
from runner.jobs.specification import TuningJobSpec
from runner.jobs.submitting import claims
from runner.jobs.submitting.ledger import Ledger, Trail
from runner.jobs.submitting.prepared import prepare
from runner.jobs.submitting.submission import submit, submit_once
from tests.gcp.corrupting import CorruptingProxy, Exchange
from tests.gcp.flaky import Fault, FlakyProxy
from tests.jobs.submitting import processes as submitting
from tests.projects import MODEL, upload_dataset

pytestmark = pytest.mark.usefixtures("state_directory")
CREATE = r"/tuningJobs$"


@pytest.fixture
def spec(session: Session) -> TuningJobSpec:
    return TuningJobSpec(base_model=MODEL, training_dataset=upload_dataset(session), epochs=1)


def jobs_of(session: Session) -> list[str]:
    return [job.id for job in tuning_jobs.list_jobs(session)]


def test_the_job_is_what_the_specification_says(session: Session, spec: TuningJobSpec) -> None:
    wanted = dataclasses.replace(
        spec,
        validation_dataset=upload_dataset(session, 4, "validation.jsonl"),
        learning_rate=1e-4,
        adapter_size=8,
        batch_size=4,
        display_name="A name",
        description="What for",
        labels={"team": "search"},
        export_last_checkpoint_only=True,
        service_account=f"tuning-account@{session.environment.project}.iam.gserviceaccount.com",
    )
    account = {"accountId": "tuning-account"}
    session.http.post(f"/v1/projects/{session.environment.project}/serviceAccounts", json=account).raise_for_status()
    job = submit(session, wanted)
    assert (job.base_model, job.mode, job.epochs) == (MODEL, "PEFT_ADAPTER", 1)
    assert (job.learning_rate, job.adapter_size, job.batch_size) == (1e-4, 8, 4)
    assert (job.display_name, job.description, job.labels["team"]) == ("A name", "What for", "search")
    assert job.validation_dataset_uri == wanted.validation_dataset
    assert job.raw["supervisedTuningSpec"]["exportLastCheckpointOnly"] is True
    assert job.output_uri.startswith(f"gs://{session.environment.outputs_bucket}/tuned/a-name-")
    assert job.raw["serviceAccount"] == wanted.service_account


def test_twice_the_same_is_one_job(session: Session, spec: TuningJobSpec) -> None:
    first = submit_once(session, spec)
    assert first.created
    renamed = dataclasses.replace(spec, labels={"other": "label"}, description="other words")
    for again in (spec, renamed):
        second = submit_once(session, again)
        assert (second.created, second.job.name) == (False, first.job.name)
    assert len(jobs_of(session)) == 1


def test_other_work_is_another_job(session: Session, spec: TuningJobSpec) -> None:
    first = prepare(session, spec).fingerprint
    others = [
        dataclasses.replace(spec, epochs=2),
        dataclasses.replace(spec, mode="FULL"),
        dataclasses.replace(spec, adapter_size=8),
        dataclasses.replace(spec, output_uri=f"gs://{session.environment.outputs_bucket}/x"),
    ]
    fingerprints = {first, *(prepare(session, other).fingerprint for other in others)}
    assert len(fingerprints) == 5
    assert all(len(item) == 52 for item in fingerprints)
    uploads.upload_bytes(session, b'{"prompt":"a","completion":"b"}\n', spec.training_dataset, replace=True)
    assert prepare(session, spec).fingerprint not in fingerprints


def test_labels_may_be_of_any_script_and_not_in_upper_case(session: Session, spec: TuningJobSpec) -> None:
    words = {"größe": "mittelgroß", "1st": "日本"}
    assert words.items() <= submit(session, dataclasses.replace(spec, labels=words)).labels.items()
    for key, value in (("Größe", "x"), ("team", "Ä"), ("_x", "y"), ("a.b", "c"), ("a" * 64, "b")):
        with pytest.raises(ConfigurationError, match="label"):
            submit(session, dataclasses.replace(spec, labels={key: value}))


def test_force_new(session: Session, spec: TuningJobSpec) -> None:
    first, second = submit(session, spec), submit(session, spec, force_new=True)
    assert first.id != second.id
    assert submit(session, spec).id == first.id


def test_after_a_cancelled_job_a_new_one_is_created(session: Session, spec: TuningJobSpec) -> None:
    first = submit(session, spec)
    tuning_jobs.cancel(session, first.id)
    *_, last = watching.watch(session, first.id, poll=0.2, timeout=60)
    assert last.job.state == "JOB_STATE_CANCELLED"
    second = submit_once(session, spec)
    assert second.created
    assert second.job.id != first.id


def test_a_lost_answer_is_recovered_by_looking_up(
    session: Session, through_proxy: Session, proxy: FlakyProxy, spec: TuningJobSpec
) -> None:
    proxy.faults.append(Fault("POST", CREATE, "lose answer"))
    job = submit(through_proxy, spec)
    assert jobs_of(session) == [job.id]
    assert proxy.count("POST", CREATE) == 1
    assert submit(through_proxy, spec).id == job.id


def test_a_503_after_the_create_is_recovered_too(
    session: Session, through_proxy: Session, proxy: FlakyProxy, spec: TuningJobSpec
) -> None:
    proxy.faults.append(Fault("POST", CREATE, "503 after"))
    job = submit(through_proxy, spec)
    assert jobs_of(session) == [job.id]
    assert proxy.count("POST", CREATE) == 1


def test_a_redirect_after_the_create_is_no_refusal(session: Session, spec: TuningJobSpec) -> None:
    def redirect(exchange: Exchange) -> bool:
        if exchange.method == "POST" and exchange.path.endswith("/tuningJobs"):
            exchange.status, exchange.content, exchange.answered = 302, b"", {"location": "http://127.0.0.1:9/"}
        return exchange.status == 302

    with CorruptingProxy(str(session.environment.vertex_url)) as proxy:
        proxy.answer = redirect
        with Session(dataclasses.replace(session.environment, vertex_url=proxy.url)) as through:
            job = submit(through, spec)
    assert jobs_of(session) == [job.id], "it was looked up"


def test_a_lost_request_is_ambiguous_and_never_repeated_by_itself(
    session: Session,
    through_proxy: Session,
    proxy: FlakyProxy,
    spec: TuningJobSpec,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(claims, "LOOKUP_SECONDS", 0.5)
    proxy.faults.append(Fault("POST", CREATE, "lose request"))
    with pytest.raises(AmbiguousSubmissionError):
        submit(through_proxy, spec)
    with pytest.raises(AmbiguousSubmissionError, match="answer lost"):
        submit(through_proxy, spec)
    assert proxy.count("POST", CREATE) == 1
    assert jobs_of(session) == []
    monkeypatch.setattr(claims, "SETTLE_SECONDS", -5.0)  # the service tells its time in whole seconds
    assert submit_once(through_proxy, spec).created
    assert len(jobs_of(session)) == 1


def test_a_refusal_is_not_ambiguous(through_proxy: Session, proxy: FlakyProxy, spec: TuningJobSpec) -> None:
    proxy.faults.append(Fault("POST", CREATE, 400))
    with pytest.raises(GoogleApiError, match="injected"):
        submit(through_proxy, spec)
    assert submit_once(through_proxy, spec).created
    assert proxy.count("POST", CREATE) == 2


@pytest.mark.parametrize("status", [409, 429])
def test_a_refusal_that_proves_nothing_is_waited_out(
    status: int,
    through_proxy: Session,
    session: Session,
    proxy: FlakyProxy,
    spec: TuningJobSpec,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """The service has created the job, refused all the same, and does not list it yet."""
    monkeypatch.setattr(claims, "LOOKUP_SECONDS", 0.3)
    proxy.faults.append(Fault("POST", CREATE, f"{status} after"))
    proxy.faults.append(Fault("GET", r"/tuningJobs(\?|$)", "empty", times=100))
    with pytest.raises(GoogleApiError, match="injected") as caught:
        submit(through_proxy, spec)
    assert "submit again in 120 s" in str(caught.value.hint)
    with pytest.raises(AmbiguousSubmissionError, match="proves nothing"):
        submit(through_proxy, spec)
    with monkeypatch.context() as patch:
        patch.setenv("RUNNER_STATE_DIR", str(tmp_path / "another-machine"))
        with pytest.raises(AmbiguousSubmissionError, match="another runner"):
            submit(through_proxy, spec)
    proxy.faults.clear()
    assert not submit_once(through_proxy, spec).created
    assert len(jobs_of(session)) == 1


def test_a_refusal_that_proves_nothing_and_is_true_ends_with_a_job(
    through_proxy: Session, session: Session, proxy: FlakyProxy, spec: TuningJobSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy.faults.append(Fault("POST", CREATE, 429))
    with pytest.raises(GoogleApiError, match="injected"):
        submit(through_proxy, spec)
    monkeypatch.setattr(claims, "SETTLE_SECONDS", -5.0)
    assert submit_once(through_proxy, spec).created
    assert len(jobs_of(session)) == 1


def test_nothing_answers(session: Session, spec: TuningJobSpec) -> None:
    nowhere = dataclasses.replace(session.environment, vertex_url="http://127.0.0.1:1")
    with Session(nowhere) as opened, pytest.raises(UnreachableError):
        submit(opened, spec)
    assert submit_once(session, spec).created


def test_two_jobs_with_one_fingerprint_are_reported(session: Session, spec: TuningJobSpec) -> None:
    fields = prepare(session, spec).fields
    ids = [tuning_jobs.create(session, fields).id for _ in range(2)]
    with pytest.raises(AmbiguousSubmissionError) as caught:
        submit(session, spec)
    assert all(item in caught.value.message for item in ids)
    assert len(jobs_of(session)) == 2


def test_a_ledger_that_cannot_be_written_stops_the_submission(
    session: Session, spec: TuningJobSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").write_text("")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "submissions.jsonl").symlink_to(tmp_path / "elsewhere")
    for place in (tmp_path / "elsewhere" / "state", tmp_path / "linked"):
        monkeypatch.setenv("RUNNER_STATE_DIR", str(place))
        with pytest.raises(ConfigurationError, match="cannot write"):
            submit(session, spec)
    assert jobs_of(session) == []
    assert (tmp_path / "elsewhere").read_text() == ""


def test_a_torn_ledger_is_read_and_written_on(state_directory: Path) -> None:
    with Ledger.open("f") as ledger:
        ledger.intend("f1", "p", "one")
    path = state_directory / "submissions.jsonl"
    assert path.stat().st_mode & 0o777 == 0o600
    with path.open("ab") as file:
        file.write(b'{"kind":"intent","finger')
    with Ledger.open("f") as ledger:
        assert ledger.trail("f1", "p").sent == {"one"}
        ledger.record("f1", "p", "created", "job")
        assert ledger.trail("f1", "p") == Trail()
        ledger.claiming("f2", "p", "two")
        assert ledger.trail("f2", "p") == Trail(unsent=frozenset({"two"}), open=True)
        ledger.intend("f2", "p", "two")
        assert ledger.trail("f2", "p") == Trail(sent=frozenset({"two"}), open=True)
        assert ledger.trail("f2", "other") == Trail()


@pytest.mark.parametrize("kind", ["lose answer", "lose request"])
def test_kill_9_during_the_create(
    kind: str,
    session: Session,
    through_proxy: Session,
    proxy: FlakyProxy,
    spec: TuningJobSpec,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queue = submitting.answers()  # must outlive the start of the process
    started: list[ForkServerProcess] = []

    def kill() -> None:
        started[0].kill()
        started[0].join(30)

    proxy.faults.append(Fault("POST", CREATE, kind, before=kill))
    started.append(submitting.start(through_proxy.environment, spec, queue))
    started[0].join(120)
    # 255 where the fork server has not noticed yet.
    assert started[0].exitcode in {-signal.SIGKILL, 255}
    if kind == "lose request":
        with pytest.raises(AmbiguousSubmissionError):
            submit(through_proxy, spec)
        monkeypatch.setattr(claims, "SETTLE_SECONDS", -5.0)  # the service tells its time in whole seconds
    again = submit_once(through_proxy, spec)
    assert again.created == (kind == "lose request")
    assert jobs_of(session) == [again.job.id]


@pytest.mark.parametrize("machines", [1, 6])
def test_concurrent_submissions_make_one_job(
    machines: int, session: Session, spec: TuningJobSpec, tmp_path: Path
) -> None:
    queue = submitting.answers()
    processes = [
        submitting.start(session.environment, spec, queue, tmp_path / f"machine-{number % machines}")
        for number in range(6)
    ]
    answers = [queue.get(timeout=120) for _ in processes]
    for process in processes:
        process.join(30)
    assert len({job for job, _ in answers}) == 1
    assert sum(created for _, created in answers) == 1
    assert len(jobs_of(session)) == 1


def test_the_claim_of_another_machine_is_left_alone_until_it_runs_out(
    session: Session,
    through_proxy: Session,
    proxy: FlakyProxy,
    spec: TuningJobSpec,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(claims, "LOOKUP_SECONDS", 0.3)
    proxy.faults.append(Fault("POST", CREATE, "lose request"))
    with pytest.raises(AmbiguousSubmissionError):
        submit(through_proxy, spec)
    monkeypatch.setenv("RUNNER_STATE_DIR", str(tmp_path / "another-machine"))
    with pytest.raises(AmbiguousSubmissionError, match="another runner has claimed"):
        submit(session, spec)
    with pytest.raises(AmbiguousSubmissionError, match="another runner has claimed"):
        submit(session, spec)
    assert jobs_of(session) == []
    monkeypatch.setattr(ownership, "LEASE_SECONDS", -5.0)  # the service tells its time in whole seconds
    assert submit_once(session, spec).created
    assert len(jobs_of(session)) == 1


def test_a_refused_create_keeps_nobody_off(
    session: Session, through_proxy: Session, proxy: FlakyProxy, spec: TuningJobSpec, tmp_path: Path
) -> None:
    proxy.faults.append(Fault("POST", CREATE, 400))
    with pytest.raises(GoogleApiError, match="injected"):
        submit(through_proxy, spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUNNER_STATE_DIR", str(tmp_path / "another-machine"))
        assert submit_once(session, spec).created
    assert not submit_once(session, spec).created


def test_a_machine_that_slept_sends_nothing(
    session: Session, spec: TuningJobSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(claims, "SEND_WITHIN_SECONDS", -1.0)
        with pytest.raises(AmbiguousSubmissionError, match="was stopped for a while"):
            submit(session, spec)
    assert jobs_of(session) == []
    assert submit_once(session, spec).created


def test_the_fingerprint_is_a_label_that_the_service_can_filter(session: Session, spec: TuningJobSpec) -> None:
    prepared = prepare(session, spec)
    submit(session, spec)
    submit(session, dataclasses.replace(spec, epochs=2))
    found = tuning_jobs.list_jobs(session, filter=f'labels.{FINGERPRINT_LABEL}="{prepared.fingerprint}"')
    assert [job.labels[FINGERPRINT_LABEL] for job in found] == [prepared.fingerprint]


def test_a_dataset_that_is_not_there(session: Session, spec: TuningJobSpec) -> None:
    absent = dataclasses.replace(spec, training_dataset=spec.training_dataset + ".absent")
    with pytest.raises(NotFoundError, match="does not exist"):
        submit(session, absent)


def test_an_api_that_is_off(session: Session, spec: TuningJobSpec) -> None:
    project = session.environment.project
    session.http.post(f"/v1/projects/{project}/services/aiplatform.googleapis.com:disable", json={}).raise_for_status()
    findings = preflight(session, spec)
    assert [finding.code for finding in findings] == ["vertex_denied"]
    assert "gcloud services enable aiplatform.googleapis.com" in findings[0].fix
    with pytest.raises(PermissionDeniedError) as caught:
        submit(session, spec)
    assert "gcloud services enable" in (caught.value.hint or "")
    url = f"/v1/projects/{project}/services/aiplatform.googleapis.com:enable"
    session.http.post(url, json={}).raise_for_status()
