"""Follow jobs until they end. Looking never changes a job, and stopping to look does not either.

A watch outlives what passes: a service out of reach, rate limits, errors of the service, an expired login. Intervals
are measured on the monotonic clock, so that a clock set back or forth ends nothing early.
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
"""Longest pause between two looks: at most 360 an hour, each up to two requests. Beyond eight jobs it grows."""
LIVE_POLL_SECONDS = 1.0
"""The same for a service that reports progress as it happens."""
FIRST_POLL_SECONDS = 0.5
PATIENCE_SECONDS = 1800.0
"""How long the service may be out of reach before a watch gives up."""
LOGIN_PATIENCE_SECONDS = 60.0
"""How long it may refuse the credentials; they are read and refreshed anew at every look meanwhile."""
JOBS_AT_FULL_RATE = 8
"""More jobs than these are looked at more rarely, each."""

_WAITING = frozenset({"TUNING_JOB_STATE_WAITING_FOR_QUOTA", "TUNING_JOB_STATE_WAITING_FOR_CAPACITY"})


@dataclass(frozen=True, slots=True, kw_only=True)
class JobUpdate:
    """News of a job: its present document, and what happened since the last update."""

    job: TuningJob
    state_changed: bool
    """The state or the finer state differs from the last update's; true for the first."""
    events: tuple[JobEvent, ...] = ()
    problem: str = ""
    """Why the service could not be asked; the watch goes on."""
    stalled: float | None = None
    """Seconds for which a job that should make progress has made none; the watch of this job ends."""


class Pace(TypedDict, total=False):
    """How often jobs are looked at, and for how long."""

    poll: float
    """Longest pause between two looks, in seconds. Pauses start short and grow, and start again after news."""
    timeout: float | None
    """Seconds; None watches for ever."""
    patience: float
    """Seconds for which the service may be out of reach."""
    stall_after: float | None
    """Seconds without progress after which a running job is given up; None is never."""


def watch(session: Session, name: str, **pace: Unpack[Pace]) -> Iterator[JobUpdate]:
    """Yield an update at once, then one whenever there is news, until the job has ended.

    Args:
        session: where.
        name: id or full name.
        pace: see `Pace`.

    Raises:
        NotFoundError: no such job.
        WaitTimeoutError: the time is up; the job goes on.
        JobStalledError: no progress for `stall_after` seconds; the job goes on.
        UnreachableError, QuotaExceededError, GoogleApiError: the service was out of reach for longer than `patience`.
    """
    for update in watch_many(session, [name], **pace):
        yield update
        if update.stalled is not None:
            raise stalled(update)


def watch_many(session: Session, names: Sequence[str], **pace: Unpack[Pace]) -> Iterator[JobUpdate]:
    """Yield the updates of several jobs, as `watch` does, until the last of them has ended or stalled.

    Raises:
        NotFoundError: one of them does not exist.
        WaitTimeoutError: the time is up; names the jobs that go on.
        UnreachableError, QuotaExceededError, GoogleApiError: see `watch`.
    """
    for news in _course(session, names, pace):
        if isinstance(news, JobUpdate):
            yield news
        else:
            time.sleep(news)


async def watch_async(session: Session, name: str, **pace: Unpack[Pace]) -> AsyncIterator[JobUpdate]:
    """Yield what `watch` does, from an event loop: looks are made in a thread, pauses are the loop's.

    Args and errors are those of `watch`. A task that is cancelled stops within the request under way.
    """
    import asyncio  # costs more to import than this module

    course = _course(session, [name], pace)
    while (news := await asyncio.to_thread(next, course, None)) is not None:
        if not isinstance(news, JobUpdate):
            await asyncio.sleep(news)
            continue
        yield news
        if news.stalled is not None:
            raise stalled(news)


def _course(session: Session, names: Sequence[str], pace: Pace) -> Iterator[JobUpdate | float]:
    """Yield updates, and between them the seconds to wait before going on."""
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
    """One job being followed: every call is one look at it."""

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
        """Look once; return the news, if any."""
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
        """Return the update that tells of a failure which may pass. Raises it when it does not, or has not."""
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
        """Return the update, with the stall of the job if it has lasted long enough."""
        job = self.job
        if job is None:
            return update
        mark = (job.state, job.detail_state, job.completed_steps, job.completed_epochs, self._seen)
        # Waiting for quota or for a machine is no stall: nothing is expected to move.
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
    if job.alive:
        return
    state = state_words(job.state)
    reason = f": {job.error_message}" if job.error_message else ""
    raise JobFailedError(f"tuning job {job.id} {state}{reason}", state=job.state, hint=f"`runner jobs why {job.id}`")


def stalled(update: JobUpdate) -> JobStalledError:
    """Return the error for an update that tells of a stall."""
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
