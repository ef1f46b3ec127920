"""`runner jobs watch|wait`. Watching never changes a job; Ctrl-C only ends the watch."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from runner.cli.commands import command
from runner.cli.jobs.group import job_name
from runner.cli.jobs.live import forecast_line, live, wanted
from runner.cli.options import Invocation, jobs_argument, together
from runner.cli.stand_ins import tell_of_job
from runner.cli.values import Duration, OneOf
from runner.errors import JobFailedError, WaitTimeoutError
from runner.local_processes import signals
from runner.wording import state_words

if TYPE_CHECKING:
    from runner.gcp.events import JobEvent
    from runner.gcp.session import Session
    from runner.gcp.tuning_jobs import TuningJob
    from runner.jobs.following.notifying import Event, Webhook
    from runner.jobs.following.progress import JobProgress
    from runner.jobs.following.watching import JobUpdate

_INTERRUPT_AGAIN_SECONDS = 2.0
_FORECAST_SECONDS = 15.0
"""Interval of log lines with forecast and cost."""
_WATCHED = frozenset({"step", "evaluation", "checkpoint", "failed", "message"})
"""Kinds of events that watching commands show; the others repeat the state."""


waiting_options = together(
    click.option("--timeout", type=Duration(), help="Stop after this time for all jobs, with exit code 6."),
    click.option(
        "--stall-after",
        type=Duration(),
        help="Stop if a running job makes no progress for this time, with exit code 6. Queue time does not count.",
    ),
    click.option(
        "--notify",
        metavar="URL|TOPIC",
        envvar="RUNNER_NOTIFY_URL",
        show_envvar=True,
        help="Address to POST to, or Pub/Sub topic projects/P/topics/T, when a job ends or stalls or the timeout "
        "passes. Other users can read command lines: set a secret address in the variable.",
    ),
    click.option(
        "--notify-format",
        type=OneOf(["json", "slack"]),
        help="Payload format [default: slack for hooks.slack.com, otherwise json].",
    ),
)
"""`timeout`, `stall_after`, `notify` and `notify_format`."""


@command(
    name="watch",
    examples=(
        "runner jobs watch latest",
        "runner jobs watch 1234567890 2345678901 --stall-after 20m",
        "runner jobs watch 1234567890 --timeout 2h30m --format json",
        "RUNNER_NOTIFY_URL=https://hooks.slack.com/services/… runner jobs watch latest",
    ),
)
@jobs_argument
@waiting_options
@click.option("--plain", is_flag=True, help="Print lines instead of redrawing.")
@click.pass_obj
def watch(
    invocation: Invocation, /, jobs: tuple[str, ...], notify: str | None, notify_format: Any, plain: bool, **pace: Any
) -> None:
    """Show the progress of jobs until they end: states, losses, time left, cost so far; exit code 5 if one fails.

    Ctrl-C stops watching, not the jobs. On a terminal, the display is updated in place; in a pipe, each event is a
    line, or a JSON object with --format json. JOB is an ID or its beginning, a name, or `latest`.
    """
    with invocation.session() as session:
        follower = Follower(invocation, session, _hook(notify, notify_format), plain=plain)
        follower.run([job_name(session, job) for job in jobs], **pace)
        follower.verdict()


def follow(invocation: Invocation, session: Session, name: str) -> None:
    """Show a job's progress until it ends. Raises JobFailedError."""
    follower = Follower(invocation, session)
    follower.run([name])
    follower.verdict()


@command(
    name="wait",
    examples=(
        "runner jobs wait latest",
        "runner jobs wait 1234567890 2345678901 --timeout 6h --stall-after 30m",
        "runner jobs ls -q --state running | xargs runner jobs wait",
    ),
)
@jobs_argument
@waiting_options
@click.pass_obj
def wait(invocation: Invocation, /, jobs: tuple[str, ...], notify: str | None, notify_format: Any, **pace: Any) -> None:
    """Wait until every JOB has ended. Exit code 0: all jobs succeeded; 5: one did not; 6: the timeout passed."""
    with invocation.session() as session:
        follower = Follower(invocation, session, _hook(notify, notify_format), verb="wait")
        follower.run([job_name(session, job) for job in jobs], **pace)
    order = {name.rsplit("/", 1)[-1]: place for place, name in enumerate(follower.watched)}
    ended = sorted(follower.ended, key=lambda job: order[job.id])
    rows = [[job.id, state_words(job.state), job.final_checkpoint_uri if job.succeeded else "-"] for job in ended]
    names = [job.id for job in ended]
    invocation.output.table(["id", "state", "weights"], rows, body=[job.to_json() for job in ended], names=names)
    follower.verdict()


@dataclass(slots=True)
class Follower:
    """Follows jobs to their ends and shows them: as a live display, as lines, or as NDJSON.

    `wait` only shows states.
    """

    invocation: Invocation
    session: Session
    hook: Webhook | None = None
    verb: str = "watch"
    plain: bool = False
    watched: dict[str, JobProgress] = field(default_factory=dict)
    ended: list[TuningJob] = field(default_factory=list)
    stalled: list[JobUpdate] = field(default_factory=list)
    _problems: dict[str, str] = field(default_factory=dict)
    _told: dict[str, float] = field(default_factory=dict)
    _named: set[str] = field(default_factory=set)
    """Jobs whose stand-in was reported."""

    def run(self, names: Sequence[str], **pace: Any) -> None:
        """Follow the jobs until each has ended or stalled. Raises WaitTimeoutError and other errors of a watch."""
        from runner.gcp.tuning_jobs import full_name
        from runner.jobs.following import watching
        from runner.jobs.following.progress import JobProgress

        self.watched = {full_name(self.session, name): JobProgress() for name in names}
        ids = " ".join(name.rsplit("/", 1)[-1] for name in self.watched)
        goes_on = "the job continues" if len(self.watched) == 1 else "the jobs continue"
        self.invocation.interrupted = f"{goes_on}; to resume, run `runner jobs {self.verb} {ids}`"
        updates = watching.watch_many(self.session, list(self.watched), **pace)
        with terminated_as_interrupted(), self._shown() as show:
            try:
                for update in updates:
                    self._take(update, show)
            except WaitTimeoutError:
                for progress in self.watched.values():
                    if progress.job is not None and not progress.job.ended:
                        self._notify("timeout", progress.job)
                raise
        self.invocation.interrupted = ""

    def verdict(self) -> None:
        """Return normally if all jobs succeeded. Raises JobFailedError, JobStalledError."""
        from runner.jobs.following import watching

        failed = [job for job in self.ended if not job.succeeded]
        if len(failed) == 1:
            watching.check(failed[0])
        if failed:
            listed = ", ".join(f"{job.id} {state_words(job.state)}" for job in failed)
            message = f"{len(failed)} of {len(self.watched)} jobs did not succeed: {listed}"
            raise JobFailedError(message, state=failed[0].state, hint=f"`runner jobs why {failed[0].id}`")
        if self.stalled:
            raise watching.stalled(self.stalled[0])
        if self.verb == "watch" and len(self.ended) == 1:
            job = self.ended[0].id
            self.invocation.output.note(
                f"next: `runner endpoints deploy {job}` serves it, `runner checkpoints export {job}` downloads it"
            )

    def _take(self, update: JobUpdate, show: Callable[[JobUpdate], None]) -> None:
        name = next(name for name in self.watched if name.rsplit("/", 1)[-1] == update.job.id)
        self.watched[name].observe(update)
        self._problems[name] = update.problem
        show(update)
        if update.stalled is not None:
            self.stalled.append(update)
            self._notify("stalled", update.job)
        elif update.job.ended and not update.problem:
            self.ended.append(update.job)
            self._notify("ended", update.job)

    @contextlib.contextmanager
    def _shown(self) -> Iterator[Callable[[JobUpdate], None]]:
        output = self.invocation.output
        if self.verb == "watch" and not output.is_json and not output.quiet and wanted(plain=self.plain):
            with live(self.watched, self._problems, color=not self.invocation.no_color) as redraw:
                yield lambda update: redraw()
        elif self.verb == "watch":
            yield self._print
        else:
            yield self._note

    def _note(self, update: JobUpdate) -> None:
        if update.state_changed:
            state = state_words(update.job.detail_state or update.job.state)
            self.invocation.output.note(f"{update.job.id}: {state}")
        if update.problem:
            self.invocation.output.warning(f"{update.problem}; still waiting")

    def _print(self, update: JobUpdate) -> None:
        if update.job.stand_in and update.job.id not in self._named:
            self._named.add(update.job.id)
            tell_of_job(self.invocation, update.job)
        if self.invocation.output.is_json:
            self._print_json(update)
            return
        output = self.invocation.output
        for event in update.events:
            line = watched_line(event)
            if line:
                output.text(f"{update.job.id}  {line}" if len(self.watched) > 1 else f"  {line}")
        if update.events or update.state_changed:
            self._print_forecast(update)
        if update.state_changed:
            detail = state_words(update.job.detail_state) if update.job.detail_state else ""
            state = state_words(update.job.state)
            output.text(f"{update.job.id}  {state}" + (f" ({detail})" if detail and detail != state else ""))
        if update.problem:
            output.warning(f"{update.problem}; still watching")

    def _print_forecast(self, update: JobUpdate) -> None:
        progress = next(item for item in self.watched.values() if item.job and item.job.id == update.job.id)
        line = forecast_line(progress)
        now = time.monotonic()
        if line and progress.step and (update.job.ended or now - self._told.get(update.job.id, 0) >= _FORECAST_SECONDS):
            self._told[update.job.id] = now
            self.invocation.output.text(f"  {progress.fraction or 0:.0%} · {line}")

    def _print_json(self, update: JobUpdate) -> None:
        output = self.invocation.output
        body: dict[str, Any] = {"id": update.job.id, "state": update.job.state}
        if update.job.detail_state:
            body["detailState"] = update.job.detail_state
        for event in update.events:
            output.document({**body, "event": event.kind, "time": event.time, **event.data}, lines=True)
        progress = next(item for item in self.watched.values() if item.job and item.job.id == update.job.id)
        if update.events or not (update.state_changed or update.problem or update.stalled):
            output.document({**body, "event": "progress", **progress.to_json()}, lines=True)
        if update.state_changed:
            output.document({**body, "event": "state"}, lines=True)
        if update.problem:
            output.document({**body, "event": "problem", "message": update.problem}, lines=True)
        if update.stalled is not None:
            output.document({**body, "event": "stalled", "seconds": round(update.stalled, 1)}, lines=True)

    def _notify(self, event: Event, job: TuningJob) -> None:
        if self.hook is None:
            return
        from runner.jobs.following import explaining, notifying

        body = notifying.payload(self.hook, event, job, cause=explaining.classify(job))
        problem = notifying.notify(self.session, self.hook, body)
        if problem:
            self.invocation.output.warning(problem)


@contextlib.contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """Treat SIGTERM like Ctrl-C within the context: the jobs continue, and the command prints how to resume the watch.

    Python discards an exception that is raised in a destructor, so an interrupt is raised again until it is handled.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        signal.setitimer(signal.ITIMER_REAL, _INTERRUPT_AGAIN_SECONDS)
        raise KeyboardInterrupt

    with signals((signal.SIGINT, signal.SIGTERM, signal.SIGALRM), interrupt):
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)


def watched_line(event: JobEvent) -> str:
    """Return the line about an event for a command that watches a job; "" for events that it does not show."""
    from runner.jobs.following.event_texts import event_text

    if event.kind not in _WATCHED:
        return ""
    return f"failed: {event_text(event)}" if event.kind == "failed" else event_text(event)


def _hook(url: str | None, style: Any) -> Webhook | None:
    if not url:
        return None
    from runner.jobs.following.notifying import webhook

    return webhook(url, style)
