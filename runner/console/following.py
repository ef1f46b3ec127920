"""Data about jobs and endpoints for pages, read once for all users and cached."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from runner import times
from runner.console.drawing import Line, line
from runner.console.observing import Reading
from runner.console.state import Console
from runner.errors import RunnerError
from runner.gcp import deployed, events, fleet, tuning_jobs, usage
from runner.gcp import endpoints as resources
from runner.gcp.endpoints import Endpoint, bare_name
from runner.gcp.events import JobEvent
from runner.gcp.tuning_jobs import TuningJob
from runner.jobs.following.explaining import Explanation, explain
from runner.jobs.following.progress import JobProgress
from runner.jobs.following.results import Measurement, Results, curve, measurements_of, results_of
from runner.jobs.following.watching import JobUpdate
from runner.jobs.outputs.checkpoints import Checkpoint, list_checkpoints
from runner.serving.bill import Bill
from runner.serving.billed import Billed
from runner.serving.billing import bill_of
from runner.serving.leak import Leak
from runner.serving.listing import ListedEndpoint, list_deployments
from runner.serving.origins import origin_of
from runner.serving.stale import find_all
from runner.serving.stored import buckets_of

ENDED_SECONDS = 3600.0
"""Seconds for which the measurements of an ended job are not read again."""
LIVE_SECONDS = 1.0
"""The same for a job that streams its progress."""
RARE_SECONDS = 60.0
"""The same for data that needs many requests."""
_EVENTS_KEPT = 400
SPARK = (96.0, 24.0)
"""Width and height of a small loss chart."""


@dataclass(frozen=True, slots=True)
class Followed:
    """A job with its history."""

    job: TuningJob
    progress: JobProgress
    measurements: tuple[Measurement, ...]
    events: tuple[JobEvent, ...]
    """The last events, except steps."""

    @property
    def tokens_per_second(self) -> float | None:
        """Return the rate of the last steps."""
        timed = [item for item in self.measurements if item.kind == "step" and item.tokens is not None][-20:]
        rates = token_rates(timed)
        return rates[-1] if rates else None


def token_rates(measured: list[Measurement]) -> list[float | None]:
    """Return tokens per second for each step; None for the first one and if the clock did not advance."""
    found: list[float | None] = []
    before: tuple[float, int] | None = None
    for item in measured:
        moment = times.seconds_of(item.time)
        rate = None
        if moment is not None and item.tokens is not None:
            if before is not None and moment > before[0]:
                rate = (item.tokens - before[1]) / (moment - before[0])
            before = (moment, item.tokens)
        found.append(rate if rate is None or rate >= 0 else None)
    return found


@dataclass(slots=True)
class _Follower:
    """Reads the new data of one job."""

    console: Console
    name: str
    lock: threading.Lock = field(default_factory=threading.Lock)
    progress: JobProgress = field(default_factory=JobProgress)
    measurements: list[Measurement] = field(default_factory=list)
    events: list[JobEvent] = field(default_factory=list)
    seen: int = 0
    state: tuple[str, str] = ("", "")

    def __call__(self) -> Followed:
        session = self.console.session
        with self.lock:
            job = tuning_jobs.get(session, self.name)
            news = tuple(events.job_events(session, job.name, self.seen))
            self.seen = max((event.number for event in news), default=self.seen)
            now = (job.state, job.detail_state)
            self.progress.observe(JobUpdate(job=job, state_changed=now != self.state, events=news))
            self.state = now
            self.measurements += measurements_of(news)
            self.events = [*self.events, *(event for event in news if event.kind != "step")][-_EVENTS_KEPT:]
            if job.ended and not self.measurements:
                self.measurements = results_of(session, job).measurements
            return Followed(job, self.progress, tuple(self.measurements), tuple(self.events))


def follow(console: Console, identifier: str) -> Reading[Followed]:
    """Return a job with its history. Raises NotFoundError."""
    key = ("follower", identifier)
    follower = console.observer.kept(key, lambda: _Follower(console, identifier))
    known = console.observer.known(("job", identifier))
    over = isinstance(known, Followed) and known.job.ended
    live = isinstance(known, Followed) and bool(known.events or known.measurements)
    keep = 10 * LIVE_SECONDS if over else LIVE_SECONDS if live else None
    return console.observer.read(("job", identifier), follower, keep=keep)


def jobs(console: Console) -> Reading[list[TuningJob]]:
    """Return all jobs of the location, newest first."""
    return console.observer.read("jobs", lambda: fleet.all_jobs(console.session))


def measured(console: Console, job: TuningJob) -> Results | None:
    """Return a job's measurements; None until they are read. Never waits."""
    keep = ENDED_SECONDS if job.ended else 5.0
    return console.observer.glance(("measured", job.name, job.ended), _results(console, job), keep=keep)


def measured_now(console: Console, job: TuningJob) -> Results:
    """Return a job's measurements."""
    keep = ENDED_SECONDS if job.ended else 5.0
    return console.observer.read(("measured", job.name, job.ended), _results(console, job), keep=keep).value


def _results(console: Console, job: TuningJob) -> Callable[[], Results]:
    return lambda: results_of(console.session, job)


def spark(console: Console, job: TuningJob) -> Line | None:
    """Return the small chart of a job's training loss; None if there is none yet."""
    # Only these jobs have readable losses, so the others are not requested.
    readable = job.start_time is not None and (job.emulator or job.raw.get("gcsMetricsUri"))
    results = measured(console, job) if readable else None
    return None if results is None else line(curve(results.measurements), *SPARK)


def checkpoints(console: Console, job: TuningJob) -> tuple[list[Checkpoint], str]:
    """Return a job's checkpoints, and the error if they cannot be read."""
    keep = ENDED_SECONDS if job.ended else 15.0
    load = partial(list_checkpoints, console.session, job)
    try:
        return console.observer.read(("checkpoints", job.name, job.ended), load, keep=keep).value, ""
    except RunnerError as error:
        return [], error.message


def why(console: Console, job: TuningJob) -> Explanation:
    """Return the explanation of a job's state."""
    keep = ENDED_SECONDS if job.ended else 10.0
    key = ("why", job.name, job.state, job.detail_state)
    return console.observer.read(key, lambda: explain(console.session, job.name), keep=keep).value


def endpoints(console: Console) -> Reading[list[ListedEndpoint]]:
    """Return all endpoints of the location, billed ones first."""
    return console.observer.read("endpoints", lambda: list_deployments(console.session))


def endpoint_named(console: Console, identifier: str) -> Endpoint:
    """Return an endpoint. Raises NotFoundError."""
    return console.observer.read(
        ("endpoint", identifier), lambda: resources.get_endpoint(console.session, identifier)
    ).value


def base_of(console: Console, endpoint: Endpoint) -> str:
    """Return the base model of the first model of an endpoint; "" if unknown."""

    def load() -> str:
        origin = origin_of(console.session, endpoint)
        jobs_there = (job for job in jobs(console).value if job.output_uri)
        made = (job for job in jobs_there if origin.folder.startswith(f"{job.output_uri.rstrip('/')}/"))
        return origin.base_model or next((job.base_model for job in made), "")

    key = ("base", endpoint.id, *(item.model for item in endpoint.deployed_models))
    return console.observer.read(key, load, keep=ENDED_SECONDS).value


def model_labels(console: Console) -> dict[str, dict[str, str]]:
    """Return the labels of Model resources by `bare_name`, which contain leases."""

    def load() -> dict[str, dict[str, str]]:
        return {bare_name(item.name): item.labels for item in deployed.list_models(console.session)}

    return console.observer.read("models", load).value


def last_asked(console: Console) -> dict[tuple[str, str], float] | None:
    """Return the last requests to deployed models, by endpoint and deployed model; None if unknown."""

    def load() -> dict[tuple[str, str], float] | None:
        return usage.last_requests(console.session, console.session.now() - 7 * 86400)

    return console.observer.read("asked", load, keep=10.0).value


def leaks(console: Console) -> list[Leak] | None:
    """Return the unused resources that cost money; None until they are known."""
    return console.observer.glance("leaks", lambda: find_all(console.session), keep=RARE_SECONDS)


def leaks_now(console: Console) -> list[Leak]:
    """Wait for the same and return it."""
    return console.observer.read("leaks", lambda: find_all(console.session), keep=RARE_SECONDS).value


def bill(console: Console, *, whole: bool = False, billed: Billed | None = None) -> Bill:
    """Return the bill of this month.

    Args:
        console: the console.
        whole: wait for the stored objects and the leaks; otherwise, use what is known of them.
        billed: the amounts that Google has billed.
    """
    resources = [item.endpoint for item in endpoints(console).value]
    labels = model_labels(console) if any(item.deployed_models for item in resources) else {}
    # Pages that only show sums do not wait for the buckets; the bill itself does.
    load = partial(buckets_of, console.session)
    known = (
        console.observer.read("buckets", load, keep=RARE_SECONDS).value
        if whole
        else console.observer.glance("buckets", load, keep=RARE_SECONDS)
    )
    buckets, unread = known or ([], [])
    return bill_of(
        jobs(console).value,
        resources,
        now=console.session.now(),
        model_labels=labels,
        buckets=buckets,
        unread=unread,
        leaks=leaks_now(console) if whole else leaks(console) or (),
        billed=billed,
    )


def spent(console: Console) -> dict[str, float | None]:
    """Return the cost of each endpoint's models this month, by its ID; None if a price is not published."""
    found: dict[str, float | None] = {}
    for item in bill(console).lines:
        if item.kind == "serving":
            before = found.get(item.id, 0.0)
            found[item.id] = None if before is None or item.usd is None else before + item.usd
    return found
