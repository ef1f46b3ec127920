"""Create the job of one record, once.

A job is created by whoever has written `claimed` and its own name into the job's record over the generation it read.
A runner that dies holding a claim leaves one of two things: a job, which the next runner finds by its labels and
adopts, or none, in which case the claim runs out. A claim outlives every create that its owner may still send, so no
second create is sent while a first one may be on its way.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
import uuid
from dataclasses import dataclass
from typing import Any, Literal

from runner.errors import GoogleApiError, QuotaExceededError, RunnerError, UnreachableError
from runner.gcp import failures, tuning_jobs
from runner.gcp.session import Session
from runner.gcp.tuning_jobs import TuningJob
from runner.gcp.versions import object_versions
from runner.jobs import identity, reproduction
from runner.jobs.manifests.records import Entry, Record, Run, StateLedger
from runner.jobs.specification import TuningJobSpec
from runner.jobs.submission import FINGERPRINT_LABEL, PreparedJob

SEND_WITHIN_SECONDS = 60.0
"""A claim older than this sends no create any more."""
LEASE_SECONDS = 240.0
"""Age at which a claim without a job is taken over: the time to send, that of the slowest request, and a margin for a
list that lags behind."""
LOOKUP_SECONDS = 10.0
"""How long the job of a lost answer is looked for before it is reported as uncertain."""

Happening = Literal[
    "created",
    "adopted",
    "ended",
    "requeued",
    "waiting",
    "elsewhere",
    "refused",
    "uncertain",
    "blocked",
    "cancelled",
    "withdrawn",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What happened to one job."""

    name: str
    what: Happening
    job: str = ""
    message: str = ""

    def to_json(self) -> dict[str, str]:
        """Return the stable JSON form."""
        body = {"name": self.name, "what": self.what, "job": self.job, "message": self.message}
        return {key: value for key, value in body.items() if value}


def submit(session: Session, ledger: StateLedger, entry: Entry, weights: str | None) -> Step:
    """Claim a queued job and create it. See `queueing` for what may be claimed.

    Args:
        session: where.
        ledger: of the records.
        entry: as it was read.
        weights: folder of the job it tunes on from.

    Raises:
        UnreachableError: the service is gone; the job is queued again, or its claim runs out.
    """
    record = entry.record
    owner = uuid.uuid4().hex
    since = _clock()
    changed = _changed_data(session, record.run)
    if changed:
        refused = record.changed(phase="refused", problem=changed)
        ledger.write(refused, entry.generation)
        return Step(name=record.name, what="refused", message=changed)
    claimed = ledger.write(record.changed(phase="claimed", owner=owner, problem=""), entry.generation)
    if claimed is None:
        return Step(name=record.name, what="elsewhere", message="another runner was quicker")
    fields = identity.request_fields(session.environment, record.name, record.run, weights)
    # Before the create, so that no job is without one; after the claim, so that only its owner writes it.
    unwritten = reproduction.record(session, _prepared(session, record, fields), _details(record))
    if _clock() - since > SEND_WITHIN_SECONDS:
        ledger.write(record, claimed.generation)
        return Step(name=record.name, what="waiting", message="this machine was stopped for a while; run again")
    try:
        job = tuning_jobs.create(session, fields)
    except RunnerError as error:
        return _failed(session, ledger, claimed, error)
    step = _recorded(session, ledger, claimed, job, "created")
    if unwritten and not step.message:
        return dataclasses.replace(step, message=f"no run manifest beside its results: {unwritten}")
    return step


def _prepared(session: Session, record: Record, fields: dict[str, Any]) -> PreparedJob:
    """Return what the run manifest says of a job."""
    wanted = {"training": fields.get("training_dataset"), "validation": fields.get("validation_dataset")}
    found = object_versions(session, [uri for uri in wanted.values() if uri])
    datasets: dict[str, Any] = {}
    for role, uri in wanted.items():
        info = found.get(uri) if uri else None
        datasets[role] = {"uri": uri, "generation": info.generation, "crc32c": info.crc32c} if info else None
    return PreparedJob(
        spec=TuningJobSpec(**{**fields, "labels": record.run.labels}),
        fingerprint=fields["labels"][FINGERPRINT_LABEL],
        labels=fields["labels"],
        datasets=datasets,
    )


def _details(record: Record) -> dict[str, Any]:
    run = record.run
    details: dict[str, Any] = {
        "manifest": {"name": record.name, "file": run.file, "identity": run.identity, "attempt": run.attempt},
        "estimate": run.price.model_dump(mode="json", by_alias=True, exclude_none=True),
        "statistics": {role: data.model_dump(mode="json", by_alias=True) for role, data in run.data.items()},
    }
    # Of the tree that was applied: whoever submits from the queue may be somewhere else.
    return {**details, "git": run.git} if run.git else details


def _failed(session: Session, ledger: StateLedger, claimed: Entry, error: RunnerError) -> Step:
    record = claimed.record
    if failures.maybe_sent(error):
        job = _appeared(session, record)
        if job is not None:
            return _recorded(session, ledger, claimed, job, "created")
        message = (
            f"a create was sent and its answer lost ({error.message}); it is looked for again in {LEASE_SECONDS:.0f} s"
        )
        return Step(name=record.name, what="uncertain", message=message)
    if isinstance(error, GoogleApiError) and not isinstance(error, QuotaExceededError):
        ledger.write(record.changed(phase="refused", owner="", problem=error.message[:500]), claimed.generation)
        return Step(name=record.name, what="refused", message=error.message)
    with contextlib.suppress(RunnerError):  # else the claim runs out by itself
        ledger.write(record.changed(phase="queued", owner="", problem=error.message[:500]), claimed.generation)
    if isinstance(error, QuotaExceededError):
        return Step(name=record.name, what="waiting", message=error.message)
    raise error


def _recorded(session: Session, ledger: StateLedger, claimed: Entry, job: TuningJob, what: Happening) -> Step:
    """Note the job in the record; a record that cannot be written is mended by whoever looks next."""
    name = claimed.record.name
    try:
        written = ledger.write(claimed.record.changed(phase="submitted", job=job.name, owner=""), claimed.generation)
    except (GoogleApiError, UnreachableError) as error:
        return Step(name=name, what=what, job=job.name, message=f"its record could not be written: {error.message}")
    if written is None:
        same = _labelled(session, claimed.record)
        if len(same) > 1:
            ids = ", ".join(item.id for item in same)
            return Step(
                name=name, what="uncertain", job=job.name, message=f"{len(same)} jobs carry its identity: {ids}"
            )
    return Step(name=name, what=what, job=job.name)


def _appeared(session: Session, record: Record) -> TuningJob | None:
    deadline, pause = time.monotonic() + LOOKUP_SECONDS, 0.2
    while True:
        with contextlib.suppress(RunnerError):
            found = _labelled(session, record)
            if found:
                return found[0]
        if time.monotonic() + pause > deadline:
            return None
        time.sleep(pause)
        pause = min(2.0, pause * 2)


def _labelled(session: Session, record: Record) -> list[TuningJob]:
    filter = f'labels.{identity.IDENTITY_LABEL}="{record.run.identity}"'
    # A service that ignored the filter must not make strangers of ours.
    found = identity.jobs_by_identity(tuning_jobs.list_jobs(session, filter=filter))
    return identity.of_attempt(found, record)


def _changed_data(session: Session, run: Run) -> str:
    """Return what is wrong if an object is not what it was when the job was agreed to; "" if nothing is."""
    named = {item.uri: item.digest for item in run.data.values() if item.digest.startswith("crc32c:")}
    for uri, info in object_versions(session, named).items():
        if info is None:
            return f"{uri} is gone"
        if f"crc32c:{info.crc32c}:{info.size}" != named[uri]:
            return f"{uri} has another content than when the job was agreed to; apply the manifests again"
    return ""


def _clock() -> float:
    """Return seconds that pass while this machine sleeps, too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.time()
