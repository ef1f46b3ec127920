"""Create the job of one record, once.

Before anything else, the record is written with the state `claimed` and the owner, which removes the job from the
queue. The owner then claims the output folder and creates the job like every submission (`runner.jobs.submitting`). If
the runner dies, there is either a job, which the next runner finds by its labels and adopts, or none, in which case the
claims expire.
"""

from __future__ import annotations

import contextlib
import uuid
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from runner.errors import (
    AmbiguousSubmissionError,
    ConfigurationError,
    GoogleApiError,
    QuotaExceededError,
    RunnerError,
    UnreachableError,
)
from runner.gcp import tuning_jobs
from runner.gcp.service_clock import elapsed
from runner.gcp.session import Session
from runner.gcp.storage import object_versions
from runner.gcp.tuning_jobs import TuningJob
from runner.jobs.labels import FINGERPRINT_LABEL, jobs_of
from runner.jobs.manifests import identity
from runner.jobs.manifests.records import Entry, Record, Run, StateLedger
from runner.jobs.outputs import ownership
from runner.jobs.specification import TuningJobSpec
from runner.jobs.submitting import claims
from runner.jobs.submitting.claims import Held
from runner.jobs.submitting.creating import Notes, attempt
from runner.jobs.submitting.prepared import PreparedJob
from runner.waiting import looks

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
    """The result for one job."""

    name: str
    what: Happening
    job: str = ""
    message: str = ""

    def to_json(self) -> dict[str, str]:
        """Return the stable JSON form."""
        body = {"name": self.name, "what": self.what, "job": self.job, "message": self.message}
        return {key: value for key, value in body.items() if value}


def submit(session: Session, ledger: StateLedger, entry: Entry, weights: str | None) -> Step:
    """Claim a queued job and create it. See `queueing` for which jobs can be claimed.

    Args:
        session: the project and location of the job, which can differ from those of the records.
        ledger: the ledger of the records.
        entry: the record, as it was read.
        weights: folder of the weights that the job continues from.

    Raises:
        UnreachableError: the service is unreachable; the job is queued again, or its claim expires.
    """
    record = entry.record
    owner, since = uuid.uuid4().hex, elapsed()
    changed = _changed_data(session, record.run)
    if changed:
        ledger.write(record.changed(phase="refused", problem=changed), entry.generation)
        return Step(name=record.name, what="refused", message=changed)
    here = session.environment.parent
    places = (*(place for place in record.run.places if place != here), here)
    record = record.changed(places=places)
    claimed = ledger.write(record.changed(phase="claimed", owner=owner, problem=""), entry.generation)
    if claimed is None:
        return _elsewhere(session, ledger, record.name)
    prepared = _prepared(session, record, weights)

    def jobs() -> list[TuningJob]:
        """Look in every location to which a create request of this attempt may have been sent."""
        found = [jobs_of(session.of(place), prepared.fingerprint) for place in places]
        return [job for some in found for job in some]

    try:
        found = attempt(
            session,
            prepared.wanted(replace=record.run.replace_output),
            prepared.manifest(session.environment.parent, _details(record)),
            owner=owner,
            jobs=jobs,
            send=partial(tuning_jobs.create, session, prepared.fields),
            notes=Notes(),  # the record reports it
            # They have held the record for so long that none of their requests can still arrive.
            unsent={record.run.owner} - {""},
            since=since,
        )
        if isinstance(found, Held):
            ledger.write(record, claimed.generation)
            message = f"{found.why}; its claim runs out in {found.left_seconds:.0f} s"
            if found.left_seconds:
                return Step(name=record.name, what="elsewhere", message=message)
            return Step(name=record.name, what="waiting", message=f"{found.why}; run again")
    except RunnerError as error:
        return _failed(ledger, claimed, error)
    return _recorded(session, ledger, claimed, found.job, "created" if found.created else "adopted")


def _elsewhere(session: Session, ledger: StateLedger, name: str) -> Step:
    """Wait for the job of the runner that was faster."""
    for _ in looks(0.1, 1.0, within=claims.LOOKUP_SECONDS):
        found = ledger.read(name)
        run = found.record.run if found else None
        if run is not None and run.phase == "submitted":
            return Step(name=name, what="adopted", job=run.job)
        if run is None or run.phase != "claimed":
            break
    return Step(name=name, what="elsewhere", message="another runner changed its record; apply again")


def _prepared(session: Session, record: Record, weights: str | None) -> PreparedJob:
    fields = identity.request_fields(session.environment, record.name, record.run, weights)
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
        lineage=record.run.identity,
    )


def _details(record: Record) -> dict[str, Any]:
    run = record.run
    details: dict[str, Any] = {
        "manifest": {
            "name": record.name,
            "repository": run.repository,
            "file": run.file,
            "identity": run.identity,
            "attempt": run.attempt,
        },
        "estimate": run.price.model_dump(mode="json", by_alias=True, exclude_none=True),
        "statistics": {role: data.model_dump(mode="json", by_alias=True) for role, data in run.data.items()},
    }
    # The commit of the applied tree: the runner that submits from the queue may use another tree.
    return {**details, "git": run.git}


def _failed(ledger: StateLedger, claimed: Entry, error: RunnerError) -> Step:
    record = claimed.record
    if isinstance(error, AmbiguousSubmissionError):
        message = f"{error.message}; it is looked for again in {ownership.LEASE_SECONDS:.0f} s"
        return Step(name=record.name, what="uncertain", message=message)
    passes = isinstance(error, QuotaExceededError) or (isinstance(error, GoogleApiError) and error.http >= 500)
    if isinstance(error, GoogleApiError | ConfigurationError) and not passes:
        ledger.write(record.changed(phase="refused", owner="", problem=error.message[:500]), claimed.generation)
        return Step(name=record.name, what="refused", message=error.message)
    with contextlib.suppress(RunnerError):  # otherwise, the claim expires
        ledger.write(record.changed(phase="queued", owner="", problem=error.message[:500]), claimed.generation)
    if isinstance(error, QuotaExceededError):
        return Step(name=record.name, what="waiting", message=error.message)
    raise error


def _recorded(session: Session, ledger: StateLedger, claimed: Entry, job: TuningJob, what: Happening) -> Step:
    """Write the job into the record; if the record cannot be written, the next runner corrects it."""
    name = claimed.record.name
    try:
        written = ledger.write(claimed.record.changed(phase="submitted", job=job.name, owner=""), claimed.generation)
    except (GoogleApiError, UnreachableError) as error:
        return Step(name=name, what=what, job=job.name, message=f"its record could not be written: {error.message}")
    if written is None:
        same = jobs_of(session, identity.labels_of(name, claimed.record.run)[FINGERPRINT_LABEL])
        if len(same) > 1:
            ids = ", ".join(item.id for item in same)
            return Step(
                name=name, what="uncertain", job=job.name, message=f"{len(same)} jobs carry its identity: {ids}"
            )
    return Step(name=name, what=what, job=job.name)


def _changed_data(session: Session, run: Run) -> str:
    """Return an error if an object has changed since the job was approved; "" if it has not."""
    named = {item.uri: item.digest for item in run.data.values() if item.digest.startswith("crc32c:")}
    for uri, info in object_versions(session, named).items():
        if info is None:
            return f"{uri} is gone"
        if f"crc32c:{info.crc32c}:{info.size}" != named[uri]:
            return f"{uri} has another content than when the job was agreed to; apply the manifests again"
    return ""
