"""The one way to create a job: look for it, claim it, send one create, find the job of one whose answer was lost."""

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
    """Why this machine has not written down that the job exists; the next submission finds it by its fingerprint."""


class Notes:
    """What a runner writes down of its attempt, beside the claim; these write nothing. An error ends the attempt."""

    def claiming(self) -> None:
        """Hear that the claim is about to be written."""

    def intend(self) -> None:
        """Hear that the create is about to be sent."""


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
    """Return the job of a fingerprint, created now unless one runs or has succeeded; or who may be creating it.

    Args:
        session: where.
        wanted: the fingerprint, and the folder that is claimed.
        manifest: what the claim says.
        owner: a name that no other attempt has.
        jobs: looks for the jobs of the fingerprint.
        send: sends the create, once, and returns the job.
        notes: hears what is about to happen.
        sent: see `claims.take`.
        unsent: see `claims.take`.
        since: on `service_clock.elapsed`, when others began to count this attempt's time, if that was before the claim.

    Raises:
        AmbiguousSubmissionError: a create may or may not have happened, or several jobs carry the fingerprint.
        OutputTakenError: the folder belongs to another job; nothing was sent.
        RunnerError: as `claims.take` before the create is sent, and after it as the service refused.
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
    """Create a job, once.

    Args:
        send: sends the create, once, and returns the job.
        claim: on the job; it is given back if certainly nothing was created.
        jobs: looks for the jobs of the fingerprint.
        before: names of those that were there.

    Raises:
        AmbiguousSubmissionError: the answer was lost and no job is listed; there may be one.
        RunnerError: the service refused, or the request was not sent. Where the refusal is not certain, the claim stays
            until a job would be listed.
    """
    error: Exception
    try:
        job = send()
    except Exception as caught:  # whatever goes wrong after the request has left, the job may exist
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
    """Return the job of a create that was refused and carried out. Raises the refusal: none is listed so far."""
    found = _appeared(jobs, before)
    if found is not None:
        return found
    later = f"submit again in {claims.SETTLE_SECONDS:.0f} s, when a job that was made all the same would be listed"
    refusal.hint = f"{refusal.hint}; {later}" if refusal.hint else later
    raise refusal


def _appeared(jobs: Callable[[], list[AnyJob]], before: Collection[str], *made: AnyJob) -> AnyJob | None:
    """Return the job that came of a create, None where none is listed.

    Args:
        jobs: looks for the jobs of the fingerprint.
        before: names of those that were there.
        made: the job that the service has named.

    Raises:
        AmbiguousSubmissionError: the network has repeated the create.
    """
    found = list(made)
    with contextlib.suppress(RunnerError):  # out of reach still, and nobody can say more
        found += [job for job in jobs() if job.name not in before]
    if len(found) > 1:
        raise several(found)
    return found[0] if found else None


def several(jobs: Sequence[Job]) -> AmbiguousSubmissionError:
    """Return the error for jobs that carry one fingerprint."""
    ids = ", ".join(job.id for job in jobs)
    return AmbiguousSubmissionError(
        f"{len(jobs)} jobs carry the fingerprint of this specification: {ids}",
        hint="cancel all but one: `runner jobs cancel ID` for tuning jobs",
    )


def ambiguous(left_seconds: float, reason: str = "") -> AmbiguousSubmissionError:
    """Return the error for a create that may have been carried out."""
    why = f" ({reason})" if reason else ""
    return AmbiguousSubmissionError(
        f"a create was sent and its answer lost{why}; the job may or may not exist, and nothing was repeated",
        hint=f"`runner jobs ls`, then submit again in {max(1, round(left_seconds))} s: "
        "a job that was created is found by its fingerprint",
    )
