"""Follow a job until it ends. Looking never changes the job, and stopping to look does not either."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from runner.errors import JobFailedError, QuotaExceededError, UnreachableError, WaitTimeoutError
from runner.gcp import events, tuning_jobs
from runner.gcp.events import JobEvent
from runner.gcp.session import Session
from runner.gcp.tuning_jobs import TuningJob

POLL_SECONDS = 10.0
"""Longest pause between two looks: at most 360 an hour, each up to two requests."""
LIVE_POLL_SECONDS = 1.0
"""The same for a service that reports progress as it happens."""
FIRST_POLL_SECONDS = 0.5
PATIENCE_SECONDS = 1800.0
"""How long the service may be out of reach before a watch gives up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobUpdate:
    """News of a job: its present document, and what happened since the last update."""

    job: TuningJob
    state_changed: bool
    """The state or the finer state differs from the last update's; true for the first."""
    events: tuple[JobEvent, ...] = ()
    problem: str = ""
    """Why the service could not be asked; the watch goes on."""


def watch(
    session: Session,
    name: str,
    *,
    poll: float = POLL_SECONDS,
    timeout: float | None = None,
    patience: float = PATIENCE_SECONDS,
) -> Iterator[JobUpdate]:
    """Yield an update at once, then one whenever there is news, until the job has ended.

    Args:
        session: where.
        name: id or full name.
        poll: longest pause between two looks, in seconds. Pauses start short and grow, and start again after news.
        timeout: seconds; None watches for ever.
        patience: seconds for which the service may be out of reach.

    Raises:
        NotFoundError: no such job.
        WaitTimeoutError: the time is up; the job goes on.
        UnreachableError, QuotaExceededError: the service was out of reach for longer than `patience`.
    """
    start = time.monotonic()
    name = tuning_jobs.full_name(session, name)
    seen = 0
    last: TuningJob | None = None
    pause = min(FIRST_POLL_SECONDS, poll)
    lost_since: float | None = None
    while True:
        try:
            job = tuning_jobs.get(session, name)
            news = tuple(events.job_events(session, name, seen))
            lost_since = None
        except (UnreachableError, QuotaExceededError) as error:
            now = time.monotonic()
            lost_since = lost_since or now
            if last is None or now - lost_since > patience:
                raise
            yield JobUpdate(job=last, state_changed=False, problem=error.message)
        else:
            seen = max((event.number for event in news), default=seen)
            changed = last is None or (job.state, job.detail_state) != (last.state, last.detail_state)
            last = job
            if changed or news:
                pause = min(FIRST_POLL_SECONDS, poll)
                yield JobUpdate(job=job, state_changed=changed, events=news)
            if job.ended:
                return
        if timeout is not None and time.monotonic() - start + pause > timeout:
            raise _timed_out(last, name, time.monotonic() - start)
        time.sleep(pause)
        pause = min(poll, pause * 1.5, LIVE_POLL_SECONDS if seen else POLL_SECONDS)


def wait(
    session: Session,
    name: str,
    timeout: float | None = None,
    *,
    poll: float = POLL_SECONDS,
    progress: Callable[[JobUpdate], None] | None = None,
) -> TuningJob:
    """Wait for a job and return it once it has succeeded.

    Raises:
        JobFailedError: it ended otherwise.
        WaitTimeoutError: the time is up; the job goes on.
    """
    job: TuningJob | None = None
    for update in watch(session, name, poll=poll, timeout=timeout):
        job = update.job
        if progress:
            progress(update)
    if job is None:
        raise AssertionError("a watch yields at least one update")
    check(job)
    return job


def check(job: TuningJob) -> None:
    """Do nothing for a job that succeeded. Raises JobFailedError for one that ended otherwise."""
    if job.succeeded or not job.ended:
        return
    state = job.state.removeprefix("JOB_STATE_").lower()
    reason = f": {job.error_message}" if job.error_message else ""
    raise JobFailedError(f"tuning job {job.id} {state}{reason}", state=job.state, hint=f"`runner jobs show {job.id}`")


def _timed_out(job: TuningJob | None, name: str, waited: float) -> WaitTimeoutError:
    state = job.state if job else "unknown"
    short = name.rsplit("/", 1)[-1]
    return WaitTimeoutError(
        f"tuning job {short} is {state} after {waited:.0f} s; it goes on", hint=f"`runner jobs wait {short}`"
    )
