"""Answer a file of questions with a batch prediction job: no endpoint, any number of machines, billed while they run.

The questions are uploaded to a bucket, under a name that depends on the questions and the model. This name is the job's
fingerprint: the job is created once, like tuning jobs (`runner.jobs.submitting`), and the same command finds it again.
The results are written into the journal beside the output, like the answers of an endpoint, and from there into the
output in the order of the questions.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from runner import json_text
from runner.errors import JobFailedError, WaitTimeoutError
from runner.gcp import batch_jobs, downloads, storage
from runner.gcp.batch_jobs import KEY, BatchJob
from runner.gcp.session import Session
from runner.gcp.uploads import upload_file
from runner.jobs.labels import FINGERPRINT_LABEL, digest
from runner.jobs.outputs.ownership import Wanted
from runner.jobs.submitting.submission import once
from runner.prices import Price, Terms
from runner.serving.batches.lines import OWN_KEYS, Journal, Lines, journal_of, opened, write_output
from runner.serving.batches.predictors import Predictor
from runner.serving.batches.pricing import ANSWER_TOKENS, EXPECTED_TOKENS, BatchEstimate, Work, estimate
from runner.serving.labels import LABELS
from runner.waiting import looks
from runner.wording import state_words

POLL_SECONDS = 15.0
_AT_ONCE = 1000
"""Number of answers that are written to the journal together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOutcome:
    """The result of a batch."""

    job: BatchJob
    total: int
    failed: int
    created: bool
    """Whether this run created the job."""

    def to_json(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        return {
            "job": self.job.name,
            "state": self.job.state,
            "total": self.total,
            "failed": self.failed,
            "created": self.created,
            "replicaHours": self.job.replica_hours,
        }


def work_of(lines: Lines, sampling: Mapping[str, Any]) -> Work:
    """Return the maximum and the expected number of tokens of the answers."""
    expected = most = 0
    for index in range(len(lines.places)):
        given = lines.body(index).get("max_tokens", sampling.get("max_tokens"))
        limit: int = given if isinstance(given, int) else ANSWER_TOKENS
        most += limit
        expected += min(limit, EXPECTED_TOKENS)
    return Work(questions=len(lines.places), expected_tokens=expected, most_tokens=most)


def plan(
    source: Path, who: Predictor, *, replicas: int, sampling: Mapping[str, Any] | None = None, rate: float | None = None
) -> BatchEstimate:
    """Return the time and price of a batch, without a request. Raises ConfigurationError for errors in the file."""
    with opened(source) as lines:
        return estimate(work_of(lines, _given(sampling)), who.base_model, who.machine, replicas, rate=rate)


def outstanding(
    session: Session,
    who: Predictor,
    source: Path,
    *,
    replicas: int = 1,
    sampling: Mapping[str, Any] | None = None,
    rate: float | None = None,
) -> Price | None:
    """Return the price of the job that `run_job` would create; None if its job is running or has succeeded."""
    given = _given(sampling)
    with opened(source) as lines:
        if _known(session, lines, who, given, restart=False)[1] is not None:
            return None
        found = estimate(work_of(lines, given), who.base_model, who.machine, replicas, rate=rate)
        return price_of(found, who)


def run_job(
    session: Session,
    who: Predictor,
    source: Path,
    output: Path,
    *,
    terms: Terms,
    replicas: int = 1,
    sampling: Mapping[str, Any] | None = None,
    rate: float | None = None,
    restart: bool = False,
    timeout: float | None = None,
    progress: Callable[[BatchJob], None] | None = None,
) -> BatchOutcome:
    """Answer every line of `source` with a batch prediction job and write `output`, in the order of the questions.

    If a job for the same questions and the same model is running or has succeeded, it is used again, and nothing is
    paid.

    Args:
        session: the project and location.
        who: the model; see `predictors.predictor`.
        source: see `runner.serving.batches.online.run_batch`; the answers have the same form.
        output: see `runner.serving.batches.online.run_batch`.
        terms: determines the approval of the price.
        replicas: number of concurrent machines.
        sampling: `max_tokens`, `temperature`, … for lines that do not contain them.
        rate: measured tokens per second of one replica.
        restart: create a job although one has succeeded.
        timeout: seconds to wait; None waits without a limit.
        progress: called repeatedly with the job.

    Raises:
        ConfigurationError: a line is incorrect, the journal belongs to another input, or another run holds it.
        CostRefusedError: the price was not approved; nothing was sent.
        AmbiguousSubmissionError: a job may or may not have been created; the same command finds out later.
        JobFailedError: the job failed or was cancelled; the completed part is billed.
        WaitTimeoutError: the job continues; the same command waits again.
        DiskError, GoogleApiError, UnreachableError: the same command continues.
    """
    given = _given(sampling)
    with opened(source) as lines, journal_of(output, lines, {"model": who.model}, given, restart) as journal:
        fingerprint, job = _known(session, lines, who, given, restart=restart)
        created = False
        if job is None:
            found = estimate(work_of(lines, given), who.base_model, who.machine, replicas, rate=rate)
            terms.require(price_of(found, who))
            job, created = _submit(session, who, lines, given, fingerprint, replicas)
        job = wait(session, job, timeout=timeout, progress=progress)
        if len(journal.places) < len(lines.places):
            _collect(session, job, lines, journal)
        write_output(output, lines, journal)
        with suppress(OSError):  # a remaining journal says that every question has an answer
            journal.path.unlink()
        return BatchOutcome(job=job, total=len(lines.places), failed=journal.failed, created=created)


def price_of(found: BatchEstimate, who: Predictor) -> Price:
    """Return the price of a job."""
    machine = who.machine.machine_type if who.machine else "a machine type that the service chooses"
    what = f"batch prediction of {found.work.questions} questions by {who.display_name} on {found.replicas} x {machine}"
    return Price(what=what, usd=found.high, expected=found.usd)


def wait(
    session: Session,
    job: BatchJob,
    *,
    timeout: float | None = None,
    progress: Callable[[BatchJob], None] | None = None,
) -> BatchJob:
    """Return a job after it has succeeded. Raises JobFailedError, WaitTimeoutError."""
    for waited in looks(0.5, POLL_SECONDS, within=math.inf if timeout is None else timeout):
        job = batch_jobs.get(session, job.name) if waited else job
        if job.ended:
            break
        if progress is not None:
            progress(job)
    else:
        raise WaitTimeoutError(
            f"{job.name} is {job.state}; it continues", hint="run the same command again to wait for it"
        )
    if not job.succeeded:
        ended = state_words(job.state)
        raise JobFailedError(
            f"{job.name} {ended}: {job.error_message or 'the service says no reason'}",
            state=job.state,
            hint="run the same command again to create a new job, which is billed",
        )
    return job


def _given(sampling: Mapping[str, Any] | None) -> dict[str, Any]:
    return {key: value for key, value in (sampling or {}).items() if value is not None}


def _known(
    session: Session, lines: Lines, who: Predictor, sampling: dict[str, Any], *, restart: bool
) -> tuple[str, BatchJob | None]:
    """Return the fingerprint of the requested job, and the job if it is running or has succeeded.

    Each restart has its own fingerprint, derived from the previous job, so that a restart that is repeated after a kill
    finds its job.
    """
    asked = {"kind": "batch", "input": lines.digest, "model": who.model, "sampling": sampling}
    fingerprint = digest({"parent": session.environment.parent, **asked})
    found: tuple[str, BatchJob | None] = (fingerprint, None)
    while True:
        job = next((job for job in _jobs(session, fingerprint) if job.alive), None)
        if job is None:
            return (fingerprint, None) if restart or found[1] is None else found
        found = (fingerprint, job)
        if not job.succeeded:
            return found
        fingerprint = digest({"after": fingerprint, "job": job.name})


def _jobs(session: Session, fingerprint: str) -> list[BatchJob]:
    return batch_jobs.labelled(session, FINGERPRINT_LABEL, fingerprint)


def _submit(
    session: Session,
    who: Predictor,
    lines: Lines,
    sampling: dict[str, Any],
    fingerprint: str,
    replicas: int,
) -> tuple[BatchJob, bool]:
    """Upload the questions and create the job once; return it, and whether it was created now."""
    session.environment.require("outputs_bucket")
    folder = f"gs://{session.environment.outputs_bucket}/batches/{fingerprint[:20]}"
    questions = f"{folder}/questions.jsonl"
    with tempfile.TemporaryDirectory(prefix="runner-batch-") as place:
        path = Path(place, "questions.jsonl")
        with path.open("w", encoding="utf-8") as file:
            for instance in _instances(lines, sampling):
                file.write(json.dumps(instance, ensure_ascii=False, separators=(",", ":")) + "\n")
        upload_file(session, path, questions)
    found = once(
        session,
        Wanted(output=folder, fingerprint=fingerprint),
        {"kind": "batch", "fingerprint": fingerprint, "parent": session.environment.parent, "model": who.model},
        jobs=partial(_jobs, session, fingerprint),
        send=partial(
            batch_jobs.create,
            session,
            display_name=f"{who.display_name[:100]}-{fingerprint[:10]}",
            model=who.model,
            inputs=questions,
            outputs=f"{folder}/predictions",
            machine=who.machine,
            replicas=replicas,
            labels={**LABELS, FINGERPRINT_LABEL: fingerprint},
        ),
    )
    return found.job, found.created


def _instances(lines: Lines, sampling: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield each question as an instance, with its index as the key."""
    for index in range(len(lines.places)):
        question = lines.body(index)
        options = {**sampling, **{key: value for key, value in question.items() if key not in OWN_KEYS}}
        if "messages" in options:
            yield {KEY: str(index), "@requestFormat": "chatCompletions", **options}
        else:
            yield {KEY: str(index), "raw_response": True, **options}


def _collect(session: Session, job: BatchJob, lines: Lines, journal: Journal) -> None:
    """Write a job's predictions and errors to the journal, in any order; a question without a result gets an error."""
    waiting: list[tuple[int, dict[str, Any]]] = []
    seen = set(journal.places)

    def keep(index: int, body: dict[str, Any]) -> None:
        seen.add(index)
        waiting.append((index, body))
        if len(waiting) >= _AT_ONCE:
            journal.add(waiting)
            waiting.clear()

    for found in _results(session, job):
        key = found.get(KEY, found.get("instance", {}).get(KEY) if isinstance(found.get("instance"), dict) else None)
        index = int(key) if isinstance(key, str | int) and str(key).isdecimal() else -1
        if 0 <= index < len(lines.places) and index not in seen:
            keep(index, _answer(found))
    for index in range(len(lines.places)):
        if index not in seen:
            keep(index, {"error": {"code": "no_answer", "message": f"{job.name} has no result for this line"}})
    if waiting:
        journal.add(waiting)


def _results(session: Session, job: BatchJob) -> Iterator[dict[str, Any]]:
    """Yield the lines of all files that a job has written."""
    for item in storage.list_objects(session, f"{job.output_directory.rstrip('/')}/"):
        if ".results-" not in item.uri and ".errors_stats-" not in item.uri:
            continue
        with downloads.stream_of(session, storage.existing(session, item.uri)) as stream:
            for line in stream:
                if line.strip():
                    found = json_text.parsed(line)
                    yield found if isinstance(found, dict) else {}


def _answer(found: dict[str, Any]) -> dict[str, Any]:
    """Return a result in the form of an endpoint's answer."""
    if "prediction" not in found:
        error = found.get("error")
        return {"error": error if isinstance(error, dict) else {"message": str(error)}}
    prediction = found["prediction"]
    try:
        choice = prediction["choices"][0]
        text = choice["message"]["content"]
    except (KeyError, IndexError, TypeError):
        return {"answer": prediction}
    return {"answer": text, "finishReason": choice.get("finish_reason", ""), "usage": prediction.get("usage") or {}}
