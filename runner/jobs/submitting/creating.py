"""The only way to create a job: look for it, claim it, create it once, and find it if the response is lost."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Generic

from runner.errors import AmbiguousSubmissionError, RunnerError
from runner.gcp import failures
from runner.gcp.service_clock import elapsed
from runner.gcp.session import Session
from runner.jobs.labels import is_job_name
from runner.jobs.outputs.ownership import Wanted
from runner.jobs.submitting import claims
from runner.jobs.submitting.claims import AnyJob, Claim, Held, Job
from runner.waiting import looks


@dataclass(frozen=True, slots=True, kw_only=True)
class Once(Generic[AnyJob]):
    """A job of any kind, and whether this submission created it."""

    job: AnyJob
    created: bool
    ledger_problem: str = ""
    """Why this machine could not record that the job exists; the next submission finds it by its fingerprint."""


class Notes:
    """Hooks that record the steps of an attempt; these record nothing. An error ends the attempt."""

    def claiming(self) -> None:
        """Called before the claim is written."""

    def intend(self) -> None:
        """Called before the create request is sent."""


def attempt(
    session: Session,
    wanted: Wanted,
    manifest: dict[str, Any],
    *,
    owner: str,
    jobs: Callable[[], list[AnyJob]],
    send: Callable[[], AnyJob],
    notes: Notes,
    sent: Collection[str] = (),
    unsent: Collection[str] = (),
    since: float = math.inf,
) -> Once[AnyJob] | Held[AnyJob]:
    """Return the job with a fingerprint, and create it unless one is running, has succeeded, or may be being created.

    Args:
        session: the project and location.
        wanted: the fingerprint, and the folder that is claimed.
        manifest: the contents of the claim.
        owner: a name that no other attempt has.
        jobs: finds the jobs with the fingerprint.
        send: sends the create request once, and returns the job.
        notes: called before each step.
        sent: see `claims.take`.
        unsent: see `claims.take`.
        since: time on `service_clock.elapsed` at which others started to measure this attempt, if before the claim.

    Raises:
        AmbiguousSubmissionError: a job may or may not have been created, or several jobs have the fingerprint.
        OutputTakenError: the folder belongs to another job; nothing was sent.
        RunnerError: before the create request, see `claims.take`; afterwards, the service's refusal.
    """
    known = jobs()
    alive = [job for job in known if job.alive]
    if len(alive) > 1:
        raise several(alive)
    if alive:
        return Once(job=alive[0], created=False)
    notes.claiming()
    claim = claims.take(session, wanted, manifest, owner=owner, jobs=jobs, sent=sent, unsent=unsent)
    if isinstance(claim, Held):
        return claim if claim.job is None else Once(job=claim.job, created=False)
    if elapsed() - min(since, claim.since) > claims.SEND_WITHIN_SECONDS:
        claim.release()
        return Held(why="this machine was stopped for a while before the job was created")
    try:
        notes.intend()
    except RunnerError:
        claim.release()
        raise
    return Once(job=_create(send, claim, jobs, {job.name for job in known}), created=True)


def _create(
    send: Callable[[], AnyJob], claim: Claim, jobs: Callable[[], list[AnyJob]], before: Collection[str]
) -> AnyJob:
    """Create a job once.

    Args:
        send: sends the create request once, and returns the job.
        claim: the claim on the job, which is released if certainly nothing was created.
        jobs: finds the jobs with the fingerprint.
        before: names of the jobs that existed before.

    Raises:
        AmbiguousSubmissionError: the response was lost and no job is listed; there may be one.
        RunnerError: the service refused, or the request was not sent. If the refusal is not certain, the claim stays
            until a job would be listed.
    """
    error: Exception
    try:
        job = send()
    except Exception as caught:  # after the request was sent, the job may exist despite any error
        error = caught
        if isinstance(caught, RunnerError) and not failures.maybe_sent(caught):
            if failures.is_certain(caught):
                claim.release()
                raise
            return _made_all_the_same(caught, jobs, before)
    else:
        if is_job_name(job.name):
            _appeared(jobs, {job.name, *before}, job)
            return job
        error = ValueError(f"the answer names no job but {job.name[:80]!r}")
    for _ in looks(0.2, 2.0, within=claims.LOOKUP_SECONDS):
        found = _appeared(jobs, before)
        if found is not None:
            return found
    raise ambiguous(claims.SETTLE_SECONDS, str(error)) from error


def _made_all_the_same(refusal: RunnerError, jobs: Callable[[], list[AnyJob]], before: Collection[str]) -> AnyJob:
    """Return the job that was created although the request was refused. Raises the refusal if no job is listed."""
    found = _appeared(jobs, before)
    if found is not None:
        return found
    later = f"submit again in {claims.SETTLE_SECONDS:.0f} s, when a job that was made all the same would be listed"
    refusal.hint = f"{refusal.hint}; {later}" if refusal.hint else later
    raise refusal


def _appeared(jobs: Callable[[], list[AnyJob]], before: Collection[str], *made: AnyJob) -> AnyJob | None:
    """Return the job that a create request has created; None if none is listed.

    Args:
        jobs: finds the jobs with the fingerprint.
        before: names of the jobs that existed before.
        made: the job that the service has named.

    Raises:
        AmbiguousSubmissionError: the network has repeated the create request.
    """
    found = list(made)
    with contextlib.suppress(RunnerError):  # still unreachable, so the result is unknown
        found += [job for job in jobs() if job.name not in before]
    if len(found) > 1:
        raise several(found)
    return found[0] if found else None


def several(jobs: Sequence[Job]) -> AmbiguousSubmissionError:
    """Return the error for several jobs with one fingerprint."""
    ids = ", ".join(job.id for job in jobs)
    return AmbiguousSubmissionError(
        f"{len(jobs)} jobs carry the fingerprint of this specification: {ids}",
        hint="cancel all but one: `runner jobs cancel ID` for tuning jobs",
    )


def ambiguous(left_seconds: float, reason: str = "") -> AmbiguousSubmissionError:
    """Return the error for a create request that may have been carried out."""
    why = f" ({reason})" if reason else ""
    return AmbiguousSubmissionError(
        f"a create was sent and its answer lost{why}; the job may or may not exist, and nothing was repeated",
        hint=f"`runner jobs ls`, then submit again in {max(1, round(left_seconds))} s: "
        "a job that was created is found by its fingerprint",
    )
