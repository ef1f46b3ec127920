"""Submit a job once.

The API for creating a tuning job has no request ID: a create request that is repeated after a lost response creates a
second paid job. Therefore, every job has a label with the fingerprint of its specification. A create request is sent
only if the list of jobs contains no job with this fingerprint, the ledger of this machine contains the intent, and the
output folder is claimed (`runner.jobs.submitting.creating`). After any interruption, from a reset connection to `kill
-9`, the next submission finds the job by its label and adopts it.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

from runner.errors import AmbiguousSubmissionError, RunnerError, UnreachableError
from runner.gcp import failures, tuning_jobs
from runner.gcp.session import Session
from runner.gcp.tuning_jobs import TuningJob
from runner.jobs.labels import jobs_of
from runner.jobs.outputs.ownership import Wanted
from runner.jobs.specification import TuningJobSpec
from runner.jobs.submitting.claims import AnyJob, Held
from runner.jobs.submitting.creating import Notes, Once, ambiguous, attempt
from runner.jobs.submitting.ledger import Ledger, Outcome
from runner.jobs.submitting.prepared import prepare


def submit(session: Session, spec: TuningJobSpec, *, force_new: bool = False) -> TuningJob:
    """Return the job of a specification, and create it unless it exists; see `submit_once`."""
    return submit_once(session, spec, force_new=force_new).job


def submit_once(
    session: Session,
    spec: TuningJobSpec,
    *,
    force_new: bool = False,
    replace_output: bool = False,
    details: Mapping[str, Any] | None = None,
) -> Once[TuningJob]:
    """Return the job of a specification, and whether it was created now. Does not check the data or approve the price.

    A job that is running or has succeeded is returned; after a failed or cancelled job, a new one is created.

    Args:
        session: the project and location.
        spec: the specification.
        force_new: create a job although one with the same specification exists.
        replace_output: delete the results of another job from the output folder.
        details: additional contents of the run manifest.

    Raises:
        AmbiguousSubmissionError: a job may or may not have been created, or several jobs have the fingerprint.
        OutputTakenError: the output folder belongs to another job; nothing was sent.
        ConfigurationError: the specification is incorrect, or the ledger cannot be written; nothing was sent.
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
    """Return the job with a fingerprint, and create it unless one is running or has succeeded.

    Args:
        session: the project and location.
        wanted: the fingerprint, and the folder that is claimed.
        manifest: the contents of the claim.
        jobs: finds the jobs with the fingerprint.
        send: sends the create request once, and returns the job.

    Raises:
        RunnerError: see `submit_once`.
    """
    with Ledger.open(wanted.fingerprint) as ledger:
        trail = ledger.trail(wanted.fingerprint, session.environment.parent)
        notes = _Notes(ledger, wanted.fingerprint, session.environment.parent)
        try:
            found = attempt(
                session,
                wanted,
                manifest,
                owner=notes.owner,
                jobs=jobs,
                send=send,
                notes=notes,
                sent=trail.sent,
                unsent=trail.unsent,
            )
        except RunnerError as error:
            notes.failed(error)
            raise
        if isinstance(found, Held):
            raise _held(found, notes)
        if not found.created and not trail.open and not notes.stage:
            return found  # there is nothing to record
        return replace(found, ledger_problem=notes.record("created" if found.created else "adopted", found.job.name))


@dataclass(slots=True)
class _Notes(Notes):
    """Records the steps in the ledger of this machine."""

    ledger: Ledger
    fingerprint: str
    parent: str
    owner: str = field(default_factory=lambda: uuid.uuid4().hex)
    stage: Literal["", "claiming", "intent"] = ""
    """The last entry."""

    def claiming(self) -> None:
        self.ledger.claiming(self.fingerprint, self.parent, self.owner)
        self.stage = "claiming"

    def intend(self) -> None:
        self.ledger.intend(self.fingerprint, self.parent, self.owner)
        self.stage = "intent"

    def record(self, outcome: Outcome, job: str = "") -> str:
        return self.ledger.record(self.fingerprint, self.parent, outcome, job)

    def failed(self, error: RunnerError) -> None:
        """Record what is certain: an open intent stands for a create request that may have been carried out."""
        if self.stage == "claiming":
            self.record("unsent")
        elif self.stage and not isinstance(error, AmbiguousSubmissionError) and failures.is_certain(error):
            self.record("unsent" if isinstance(error, UnreachableError) else "refused")


def _held(held: Held[AnyJob], notes: _Notes) -> AmbiguousSubmissionError:
    """Return the error for a job that another runner, or an earlier one of this machine, may have created."""
    if held.mine:
        # The wait starts with the claim in the folder, which may be this one.
        notes.intend()
        return ambiguous(held.left_seconds, "or it was a refusal that proves nothing, such as 429")
    notes.record("unsent")
    again = f" in {max(1, round(held.left_seconds))} s: if its job exists by then, it is found; if not, it is created"
    return AmbiguousSubmissionError(
        f"{held.why}; nothing was sent from here",
        hint=f"submit again{again}" if held.left_seconds else "submit again",
    )
