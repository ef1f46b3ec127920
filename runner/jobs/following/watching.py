"""Watch jobs until they end. Starting or stopping a watch never changes a job.

A watch survives temporary problems: an unreachable service, rate limits, server errors, an expired login. Intervals are
measured on the monotonic clock, so that a change of the system clock does not end a watch.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypedDict, Unpack

from runner.errors import (
    GoogleApiError,
    JobFailedError,
    JobStalledError,
    RunnerError,
    WaitTimeoutError,
)
from runner.gcp import events, failures, tuning_jobs
from runner.gcp.events import JobEvent
from runner.gcp.session import Session
from runner.gcp.tuning_jobs import TuningJob
from runner.wording import state_words

POLL_SECONDS = 10.0
"""Maximum pause between two polls: at most 360 an hour, with up to two requests each. It grows for more than 8 jobs."""
LIVE_POLL_SECONDS = 1.0
"""The same for a service that streams progress."""
FIRST_POLL_SECONDS = 0.5
PATIENCE_SECONDS = 1800.0
"""How long the service can be unreachable before a watch stops."""
LOGIN_PATIENCE_SECONDS = 60.0
"""How long the service can refuse the credentials, which are refreshed at every poll during this time."""
JOBS_AT_FULL_RATE = 8
"""With more jobs than this, each job is polled less often."""

_WAITING = frozenset({"TUNING_JOB_STATE_WAITING_FOR_QUOTA", "TUNING_JOB_STATE_WAITING_FOR_CAPACITY"})


@dataclass(frozen=True, slots=True, kw_only=True)
class JobUpdate:
    """An update on a job: its current document, and what happened since the last update."""

    job: TuningJob
    state_changed: bool
    """Whether the state or the detailed state differs from the last update; true for the first update."""
    events: tuple[JobEvent, ...] = ()
    problem: str = ""
    """Why the service could not be polled; the watch continues."""
    stalled: float | None = None
    """Seconds without progress of a job that should make progress; the watch of this job ends."""


class Pace(TypedDict, total=False):
    """How often jobs are polled, and for how long."""

    poll: float
    """Maximum pause between two polls in seconds. Pauses start short, grow, and become short again after an update."""
    timeout: float | None
    """Seconds; None watches without a limit."""
    patience: float
    """Seconds for which the service can be unreachable."""
    stall_after: float | None
    """Seconds without progress after which the watch of a running job ends; None disables this."""


def watch(session: Session, name: str, **pace: Unpack[Pace]) -> Iterator[JobUpdate]:
    """Yield an update immediately, then one for each change, until the job has ended.

    Args:
        session: the project and location.
        name: ID or full name.
        pace: see `Pace`.

    Raises:
        NotFoundError: the job does not exist.
        WaitTimeoutError: the timeout has passed; the job continues.
        JobStalledError: no progress for `stall_after` seconds; the job continues.
        UnreachableError, QuotaExceededError, GoogleApiError: the service was unavailable for longer than `patience`.
    """
    for update in watch_many(session, [name], **pace):
        yield update
        if update.stalled is not None:
            raise stalled(update)


def watch_many(session: Session, names: Sequence[str], **pace: Unpack[Pace]) -> Iterator[JobUpdate]:
    """Yield the updates of several jobs, like `watch`, until all of them have ended or stalled.

    Raises:
        NotFoundError: one of the jobs does not exist.
        WaitTimeoutError: the timeout has passed; the error names the jobs that continue.
        UnreachableError, QuotaExceededError, GoogleApiError: see `watch`.
    """
    for news in _course(session, names, pace):
        if isinstance(news, JobUpdate):
            yield news
        else:
            time.sleep(news)


async def watch_async(session: Session, name: str, **pace: Unpack[Pace]) -> AsyncIterator[JobUpdate]:
    """Yield the same as `watch`, in an event loop: polls run in a thread, and pauses use the event loop.

    Args and errors are those of `watch`. If the task is cancelled, it stops after the current request.
    """
    import asyncio  # takes longer to import than this module

    course = _course(session, [name], pace)
    while (news := await asyncio.to_thread(next, course, None)) is not None:
        if not isinstance(news, JobUpdate):
            await asyncio.sleep(news)
            continue
        yield news
        if news.stalled is not None:
            raise stalled(news)


def _course(session: Session, names: Sequence[str], pace: Pace) -> Iterator[JobUpdate | float]:
    """Yield updates, and between them the seconds to wait before the next poll."""
    start, timeout = time.monotonic(), pace.get("timeout")
    slower = max(1.0, len(names) / JOBS_AT_FULL_RATE)
    full = dict.fromkeys(tuning_jobs.full_name(session, name) for name in names)
    looks = [_Look(session, name, slower, pace) for name in full]
    while looks:
        for look in [look for look in looks if look.due <= time.monotonic()]:
            update = look()
            if update is not None:
                yield update
            if look.over:
                looks.remove(look)
        if looks:
            next_due = min(look.due for look in looks)
            if timeout is not None and next_due - start > timeout:
                raise _timed_out(looks, time.monotonic() - start)
            yield max(0.0, next_due - time.monotonic())


class _Look:
    """One watched job; each call polls it once."""

    def __init__(self, session: Session, name: str, slower: float, pace: Pace) -> None:
        self.session = session
        self.name = name
        self.job: TuningJob | None = None
        self.over = False
        self.due = time.monotonic()
        self._poll = slower * pace.get("poll", POLL_SECONDS)
        self._slower = slower
        self._patience = pace.get("patience", PATIENCE_SECONDS)
        self._stall_after = pace.get("stall_after")
        self._pause = min(FIRST_POLL_SECONDS, self._poll)
        self._seen = 0
        self._lost_since: float | None = None
        self._mark: object = None
        self._progress = time.monotonic()

    def __call__(self) -> JobUpdate | None:
        """Poll once; return the update, if there is one."""
        try:
            update = self._news()
        except RunnerError as error:
            update = self._endured(error)
        now = time.monotonic()
        self.due = now + self._pause
        limit = min(self._poll, (LIVE_POLL_SECONDS if self._seen else POLL_SECONDS) * self._slower)
        self._pause = min(limit, self._pause * 1.5)
        if update is None or not update.problem:
            return self._stall(update, now)
        return update

    def _news(self) -> JobUpdate | None:
        job = tuning_jobs.get(self.session, self.name)
        news = tuple(events.job_events(self.session, self.name, self._seen))
        self._lost_since = None
        self._seen = max((event.number for event in news), default=self._seen)
        last, self.job = self.job, job
        changed = last is None or (job.state, job.detail_state) != (last.state, last.detail_state)
        moved = last is not None and job.completed_steps != last.completed_steps
        self.over = job.ended
        if not (changed or news or moved):
            return None
        self._pause = min(FIRST_POLL_SECONDS, self._poll)
        return JobUpdate(job=job, state_changed=changed, events=news)

    def _endured(self, error: RunnerError) -> JobUpdate:
        """Return an update for a failure that may be temporary. Raises the failure if it is not, or lasts too long."""
        patience = self._patience
        if isinstance(error, GoogleApiError) and error.http == 401:
            patience = min(patience, LOGIN_PATIENCE_SECONDS)
            self.session.renew()
        elif not failures.may_pass(error):
            raise error
        now = time.monotonic()
        self._lost_since = self._lost_since or now
        if self.job is None or now - self._lost_since > patience:
            raise error
        return JobUpdate(job=self.job, state_changed=False, problem=error.message)

    def _stall(self, update: JobUpdate | None, now: float) -> JobUpdate | None:
        """Return the update, marked as stalled if the job has stalled for long enough."""
        job = self.job
        if job is None:
            return update
        mark = (job.state, job.detail_state, job.completed_steps, job.completed_epochs, self._seen)
        # Waiting for quota or for a machine is not a stall, because no progress is expected.
        if mark != self._mark or job.detail_state in _WAITING or job.state != "JOB_STATE_RUNNING":
            self._mark, self._progress = mark, now
        still = now - self._progress
        if self._stall_after is None or still < self._stall_after:
            return update
        self.over = True
        return JobUpdate(job=job, state_changed=False, stalled=still)


def wait(
    session: Session,
    name: str,
    timeout: float | None = None,
    *,
    poll: float = POLL_SECONDS,
    progress: Callable[[JobUpdate], None] | None = None,
) -> TuningJob:
    """Wait for a job and return it when it has succeeded.

    Raises:
        JobFailedError: the job ended in another state.
        WaitTimeoutError: the timeout has passed; the job continues.
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
    """Return normally for a job that succeeded. Raises JobFailedError for a job that ended in another state."""
    if job.alive:
        return
    state = state_words(job.state)
    reason = f": {job.error_message}" if job.error_message else ""
    raise JobFailedError(f"tuning job {job.id} {state}{reason}", state=job.state, hint=f"`runner jobs why {job.id}`")


def stalled(update: JobUpdate) -> JobStalledError:
    """Return the error for an update that reports a stall."""
    job = update.job
    state = state_words(job.detail_state or job.state)
    return JobStalledError(
        f"tuning job {job.id} has made no progress for {update.stalled or 0:.0f} s (state {state}); it continues",
        hint=f"`runner jobs why {job.id}`, or `runner jobs cancel {job.id}`",
    )


def _timed_out(looks: list[_Look], waited: float) -> WaitTimeoutError:
    ids = " ".join(look.name.rsplit("/", 1)[-1] for look in looks)
    if len(looks) == 1:
        state = looks[0].job.state if looks[0].job else "unknown"
        message = f"tuning job {ids} is {state} after {waited:.0f} s; it continues"
    else:
        message = f"{len(looks)} tuning jobs have not ended after {waited:.0f} s and continue: {ids.replace(' ', ', ')}"
    return WaitTimeoutError(message, hint=f"`runner jobs wait {ids}`")
