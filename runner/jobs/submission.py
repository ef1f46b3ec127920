"""Submit a job once.

Creating a tuning job has no request id: a create that is repeated after a lost answer is a second paid job. So every
job carries a fingerprint of what it is to do, as a label, and a create is sent only after the list of jobs shows none
with that fingerprint and the intent is on disk. Whatever happens after that, from a reset connection to `kill -9`, the
next submission finds the intent, looks the job up by its label and adopts it. Runners of other machines, which do not
see the intent, are kept off by a claim in the output folder (`runner.jobs.output_claims`).
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runner.errors import AmbiguousSubmissionError, NotFoundError, RunnerError, UnreachableError
from runner.gcp import failures, storage, tuning_jobs
from runner.gcp.session import Session
from runner.gcp.tuning_jobs import TuningJob
from runner.jobs import output_claims
from runner.jobs.ledger import Ledger
from runner.jobs.output_claims import OutputClaim
from runner.jobs.specification import TuningJobSpec, check

FINGERPRINT_LABEL = "runner-fingerprint"
MANAGED_LABEL = "managed-by"
MANAGED_VALUE = "open-model-tuning-runner"
SCHEMA_VERSION = 1
"""Of the fingerprint; raise it when a field is added or the meaning of one changes."""
SETTLE_SECONDS = 60.0
"""How long a created job may be missing from the list; a guess with a wide margin, the service publishes nothing."""
LOOKUP_SECONDS = 10.0
"""How long a lost answer is looked up before the submission is reported as ambiguous."""
_UNFINISHED_BUSINESS = frozenset({"JOB_STATE_FAILED", "JOB_STATE_CANCELLED", "JOB_STATE_EXPIRED"})


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedJob:
    """A specification with every value filled in, ready to be sent."""

    spec: TuningJobSpec
    fingerprint: str
    """52 characters of a-z and 2-7: SHA-256 in base32."""
    labels: dict[str, str]
    datasets: dict[str, Any]
    """`training` and `validation`: address, generation and CRC32C, or None."""

    @property
    def fields(self) -> dict[str, Any]:
        """Return what `tuning_jobs.create` takes."""
        return {**self.spec.given(), "labels": self.labels}


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A job, and whether this submission created it."""

    job: TuningJob
    created: bool
    manifest_problem: str = ""
    """Why the run manifest could not be written beside the results; "" when it was."""
    ledger_problem: str = ""
    """Why this machine has not written down that the job exists; the next submission finds it by its fingerprint."""


def prepare(session: Session, spec: TuningJobSpec, *, salt: str = "") -> PreparedJob:
    """Return the specification as it would be sent. Reads the generations of the datasets; changes nothing.

    Args:
        session: where.
        spec: what.
        salt: makes a different fingerprint of the same specification.

    Raises:
        ConfigurationError: the specification is wrong; all mistakes are listed.
        UnknownModelError: the base model is not in the catalogue.
        NotFoundError: a dataset does not exist.
    """
    environment = session.environment
    check(spec, environment)
    resolved = spec.resolved()
    datasets = {
        "training": _version(session, resolved.training_dataset),
        "validation": _version(session, resolved.validation_dataset) if resolved.validation_dataset else None,
    }
    fingerprint = digest(fingerprint_inputs(environment.parent, resolved, datasets, salt))
    slug = re.sub(r"[^a-z0-9]+", "-", (resolved.display_name or resolved.base_model.split("@")[-1]).lower()).strip("-")
    output = resolved.output_uri or f"gs://{environment.outputs_bucket}/tuned/{slug[:40]}-{fingerprint[:10]}"
    name = resolved.display_name or f"{slug[:100]}-{fingerprint[:10]}"
    labels = {**resolved.labels, MANAGED_LABEL: MANAGED_VALUE, FINGERPRINT_LABEL: fingerprint}
    filled = dataclasses.replace(resolved, output_uri=output.rstrip("/"), display_name=name)
    return PreparedJob(spec=filled, fingerprint=fingerprint, labels=labels, datasets=datasets)


def fingerprint_inputs(parent: str, spec: TuningJobSpec, datasets: dict[str, Any], salt: str = "") -> dict[str, Any]:
    """Return what makes a job the same job; names, descriptions and labels make no difference to it.

    Args:
        parent: `projects/P/locations/L`.
        spec: resolved.
        datasets: `training` and `validation`: address, generation and CRC32C, or None.
        salt: makes a different fingerprint of the same specification.
    """
    return {"schema": SCHEMA_VERSION, "parent": parent, "datasets": datasets, "salt": salt, **spec.work()}


def digest(inputs: Mapping[str, Any]) -> str:
    """Return 52 characters of a-z and 2-7 for JSON values: SHA-256 in base32."""
    canonical = json.dumps(inputs, sort_keys=True, separators=(",", ":")).encode()
    return base64.b32encode(hashlib.sha256(canonical).digest()).decode().rstrip("=").lower()


def submit(session: Session, spec: TuningJobSpec, *, force_new: bool = False) -> TuningJob:
    """Return the job of a specification, creating it unless one exists; see `submit_once`."""
    return submit_once(session, spec, force_new=force_new).job


def submit_once(
    session: Session, spec: TuningJobSpec, *, force_new: bool = False, details: Mapping[str, Any] | None = None
) -> Submission:
    """Return the job of a specification, and whether it was created now.

    A job that runs or has succeeded is returned again; after a failed or cancelled one a new one is created.

    Args:
        session: where.
        spec: what.
        force_new: create a job although one with the same specification exists.
        details: what the run manifest shall say besides (`runner.jobs.reproduction`).

    Raises:
        AmbiguousSubmissionError: a create may or may not have happened, or several jobs carry the fingerprint.
        ConfigurationError: the specification is wrong, or the ledger cannot be written; nothing was sent.
        DiskError: the ledger's disk is full or broken; nothing was sent.
        GoogleApiError, UnreachableError: the service refused or cannot be reached; no job was created.
    """
    prepared = prepare(session, spec, salt=uuid.uuid4().hex if force_new else "")
    parent = session.environment.parent
    with Ledger.open() as ledger:
        intent = ledger.open_intent(prepared.fingerprint, parent)
        known = _jobs(session, prepared.fingerprint)
        alive = [job for job in known if job.state not in _UNFINISHED_BUSINESS]
        if len(alive) > 1:
            raise _several(alive)
        if alive:
            problem = ledger.record(prepared.fingerprint, parent, "adopted", alive[0].name) if intent else ""
            return Submission(job=alive[0], created=False, ledger_problem=problem)
        if intent is not None:
            if intent.age < SETTLE_SECONDS and not known:
                raise _ambiguous(f"a create was sent {intent.age:.0f} s ago and its answer lost", intent.age)
            ledger.record(prepared.fingerprint, parent, "abandoned")
        owner, dead = uuid.uuid4().hex, ledger.dead_owners(prepared.fingerprint, parent)
        ledger.intend(prepared.fingerprint, parent, owner)
        try:
            claim = output_claims.take(
                session,
                prepared,
                details or {},
                owner=owner,
                dead=dead,
                jobs=lambda: _jobs(session, prepared.fingerprint),
            )
        except RunnerError:
            ledger.record(prepared.fingerprint, parent, "unsent")
            raise
        if not claim.won:
            return _of_another(claim, ledger, prepared.fingerprint, parent)
        submission = _create(session, prepared, ledger, claim, {job.name for job in known})
    return dataclasses.replace(submission, manifest_problem=claim.problem)


def _of_another(claim: OutputClaim, ledger: Ledger, fingerprint: str, parent: str) -> Submission:
    """Return the job that a runner of another machine has created. Raises AmbiguousSubmissionError: it may have."""
    if claim.job is not None:
        problem = ledger.record(fingerprint, parent, "adopted", claim.job.name)
        return Submission(job=claim.job, created=False, ledger_problem=problem)
    ledger.record(fingerprint, parent, "unsent")
    raise AmbiguousSubmissionError(
        "another runner has claimed this job and may be creating it; nothing was sent from here",
        hint=f"submit again in {max(1, round(claim.left_seconds))} s: its job is found by its fingerprint, and if it "
        "died the job is created",
    )


def _create(
    session: Session, prepared: PreparedJob, ledger: Ledger, claim: OutputClaim, before: set[str]
) -> Submission:
    parent = session.environment.parent
    if claim.expired:
        ledger.record(prepared.fingerprint, parent, "unsent")
        output_claims.release(session, prepared, claim)
        raise AmbiguousSubmissionError(
            "this machine was stopped for a while before the job was created; nothing was sent", hint="submit again"
        )
    try:
        job = tuning_jobs.create(session, prepared.fields)
    except RunnerError as error:
        if not failures.maybe_sent(error):
            output_claims.release(session, prepared, claim)
            ledger.record(prepared.fingerprint, parent, "unsent" if isinstance(error, UnreachableError) else "refused")
            raise
        return _recover(session, prepared, ledger, before, error)
    problem = ledger.record(prepared.fingerprint, parent, "created", job.name)
    return Submission(job=job, created=True, ledger_problem=problem)


def _recover(
    session: Session, prepared: PreparedJob, ledger: Ledger, before: set[str], error: RunnerError
) -> Submission:
    """Look for the job of a create whose answer was lost. Raises AmbiguousSubmissionError if it does not appear."""
    deadline = time.monotonic() + LOOKUP_SECONDS
    pause = 0.2
    while True:
        try:
            found = [job for job in _jobs(session, prepared.fingerprint) if job.name not in before]
        except RunnerError:
            found = []  # out of reach still; what was lost stays on disk for the next submission
        if len(found) > 1:
            raise _several(found) from error
        if found:
            problem = ledger.record(prepared.fingerprint, session.environment.parent, "adopted", found[0].name)
            return Submission(job=found[0], created=True, ledger_problem=problem)
        if time.monotonic() + pause > deadline:
            raise _ambiguous(f"a create was sent and its answer lost ({error.message})", 0.0) from error
        time.sleep(pause)
        pause = min(2.0, pause * 2)


def _jobs(session: Session, fingerprint: str) -> list[TuningJob]:
    found = tuning_jobs.list_jobs(session, filter=f'labels.{FINGERPRINT_LABEL}="{fingerprint}"')
    # A service that ignored the filter must not make strangers of ours.
    return [job for job in found if job.labels.get(FINGERPRINT_LABEL) == fingerprint]


def _version(session: Session, uri: str) -> dict[str, Any]:
    info = storage.stat(session, uri)
    if info is None:
        raise NotFoundError(
            f"the dataset {uri} does not exist",
            status="NOT_FOUND",
            http=404,
            method="storage.objects.get",
            resource=uri,
            hint="`runner data upload` puts it there",
        )
    return {"uri": uri, "generation": info.generation, "crc32c": info.crc32c}


def _several(jobs: list[TuningJob]) -> AmbiguousSubmissionError:
    ids = ", ".join(job.id for job in jobs)
    return AmbiguousSubmissionError(
        f"{len(jobs)} jobs carry the fingerprint of this specification: {ids}",
        hint="cancel all but one with `runner jobs cancel ID`",
    )


def _ambiguous(what: str, age: float) -> AmbiguousSubmissionError:
    return AmbiguousSubmissionError(
        f"{what}; the job may or may not exist, and nothing was repeated",
        hint=f"`runner jobs ls`, then submit again in {max(1, round(SETTLE_SECONDS - age))} s: "
        "a job that was created is found by its fingerprint",
    )
