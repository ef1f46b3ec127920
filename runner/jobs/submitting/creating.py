"""Send one create, and find the job of a create whose answer was lost."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Sequence

from runner.errors import AmbiguousSubmissionError, RunnerError
from runner.gcp import failures
from runner.jobs.labels import is_job_name
from runner.jobs.submitting import claims
from runner.jobs.submitting.claims import AnyJob, Claim, Job


def create(
    send: Callable[[], AnyJob],
    *,
    claim: Claim,
    jobs: Callable[[], list[AnyJob]],
    before: Collection[str] = (),
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
    deadline, pause = time.monotonic() + claims.LOOKUP_SECONDS, 0.2
    while True:
        found = _appeared(jobs, before)
        if found is not None:
            return found
        if time.monotonic() + pause > deadline:
            raise ambiguous(claims.SETTLE_SECONDS, str(error)) from error
        time.sleep(pause)
        pause = min(2.0, pause * 2)


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
