"""Submit a job once.

Creating a tuning job has no request id: a create that is repeated after a lost answer is a second paid job. So every
job carries a fingerprint of what it is to do, as a label, and a create is sent only after the list of jobs shows none
with that fingerprint, the ledger of this machine says what is about to happen, and the output folder is claimed
(`runner.jobs.submitting.claims`). Whatever happens after that, from a reset connection to `kill -9`, the next
submission looks the job up by its label and adopts it.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic

from runner.errors import AmbiguousSubmissionError, RunnerError, UnreachableError
from runner.gcp import failures, tuning_jobs
from runner.gcp.session import Session
from runner.gcp.tuning_jobs import TuningJob
from runner.jobs.labels import jobs_of
from runner.jobs.outputs.ownership import Wanted
from runner.jobs.specification import TuningJobSpec
from runner.jobs.submitting import claims
from runner.jobs.submitting.claims import AnyJob, Held
from runner.jobs.submitting.creating import ambiguous, create, several
from runner.jobs.submitting.ledger import Ledger
from runner.jobs.submitting.prepared import prepare

_UNFINISHED_BUSINESS = frozenset({"JOB_STATE_FAILED", "JOB_STATE_CANCELLED", "JOB_STATE_EXPIRED"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Once(Generic[AnyJob]):
    """A job of any kind, and whether this submission created it."""

    job: AnyJob
    created: bool
    ledger_problem: str = ""
    """Why this machine has not written down that the job exists; the next submission finds it by its fingerprint."""


def submit(session: Session, spec: TuningJobSpec, *, force_new: bool = False) -> TuningJob:
    """Return the job of a specification, creating it unless one exists; see `submit_once`."""
    return submit_once(session, spec, force_new=force_new).job


def submit_once(
    session: Session,
    spec: TuningJobSpec,
    *,
    force_new: bool = False,
    replace_output: bool = False,
    details: Mapping[str, Any] | None = None,
) -> Once[TuningJob]:
    """Return the job of a specification, and whether it was created now. Checks no data and asks nobody for the price.

    A job that runs or has succeeded is returned again; after a failed or cancelled one a new one is created.

    Args:
        session: where.
        spec: what.
        force_new: create a job although one with the same specification exists.
        replace_output: delete the results of another job from the output folder.
        details: what the run manifest shall say besides.

    Raises:
        AmbiguousSubmissionError: a create may or may not have happened, or several jobs carry the fingerprint.
        OutputTakenError: the output folder belongs to another job; nothing was sent.
        ConfigurationError: the specification is wrong, or the ledger cannot be written; nothing was sent.
        DiskError: the ledger's disk is full or broken; nothing was sent.
        GoogleApiError, UnreachableError: the service refused or cannot be reached, or the output folder cannot be
            claimed; no job was created.
    """
    prepared = prepare(session, spec, salt=uuid.uuid4().hex if force_new else "")
    return once(
        session,
        prepared.wanted(replace=replace_output),
        prepared.manifest(session.environment.parent, details or {}),
        jobs=partial(jobs_of, session, prepared.fingerprint),
        send=partial(tuning_jobs.create, session, prepared.fields),
    )


def once(
    session: Session,
    wanted: Wanted,
    manifest: dict[str, Any],
    *,
    jobs: Callable[[], list[AnyJob]],
    send: Callable[[], AnyJob],
) -> Once[AnyJob]:
    """Return the job of a fingerprint, created now unless one runs or has succeeded.

    Args:
        session: where.
        wanted: the fingerprint, and the folder that is claimed.
        manifest: what the claim says.
        jobs: looks for the jobs of the fingerprint.
        send: sends the create, once, and returns the job.

    Raises:
        RunnerError: see `submit_once`.
    """
    fingerprint, parent = wanted.fingerprint, session.environment.parent
    with Ledger.open(fingerprint) as ledger:
        trail = ledger.trail(fingerprint, parent)
        known = jobs()
        alive = [job for job in known if job.state not in _UNFINISHED_BUSINESS]
        if len(alive) > 1:
            raise several(alive)
        if alive:
            problem = ledger.record(fingerprint, parent, "adopted", alive[0].name) if trail.open else ""
            return Once(job=alive[0], created=False, ledger_problem=problem)
        owner = uuid.uuid4().hex
        ledger.claiming(fingerprint, parent, owner)
        try:
            claim = claims.take(session, wanted, manifest, owner=owner, jobs=jobs, sent=trail.sent, unsent=trail.unsent)
        except RunnerError:
            ledger.record(fingerprint, parent, "unsent")
            raise
        if isinstance(claim, Held):
            return _held(claim, ledger, fingerprint, parent, owner)
        if claim.expired:
            ledger.record(fingerprint, parent, "unsent")
            claim.release()
            raise AmbiguousSubmissionError(
                "this machine was stopped for a while before the job was created; nothing was sent",
                hint="submit again",
            )
        try:
            ledger.intend(fingerprint, parent, owner)
        except RunnerError:
            claim.release()
            raise
        try:
            job = create(send, claim=claim, jobs=jobs, before={job.name for job in known})
        except AmbiguousSubmissionError:
            raise  # the open intent stands for it
        except RunnerError as error:
            if failures.is_certain(error):
                ledger.record(fingerprint, parent, "unsent" if isinstance(error, UnreachableError) else "refused")
            raise
        problem = ledger.record(fingerprint, parent, "created", job.name)
        return Once(job=job, created=True, ledger_problem=problem)


def _held(held: Held[AnyJob], ledger: Ledger, fingerprint: str, parent: str, owner: str) -> Once[AnyJob]:
    """Return the job that another runner has created. Raises AmbiguousSubmissionError: it, or an earlier one, may."""
    if held.job is not None:
        problem = ledger.record(fingerprint, parent, "adopted", held.job.name)
        return Once(job=held.job, created=False, ledger_problem=problem)
    if held.mine:
        # The time runs from the claim in the folder, which may be this one.
        ledger.intend(fingerprint, parent, owner)
        raise ambiguous(held.left_seconds, "or it was a refusal that proves nothing, such as 429")
    ledger.record(fingerprint, parent, "unsent")
    raise AmbiguousSubmissionError(
        "another runner has claimed this job and may be creating it; nothing was sent from here",
        hint=f"submit again in {max(1, round(held.left_seconds))} s: its job is found by its fingerprint, and if it "
        "died the job is created",
    )
