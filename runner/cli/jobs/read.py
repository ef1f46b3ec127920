"""`runner jobs ls|show`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from runner.cli.commands import command
from runner.cli.completing import completed, jobs_named, remember
from runner.cli.jobs.group import described, found_job
from runner.cli.options import Invocation, job_argument
from runner.cli.stand_ins import tell_of_job
from runner.cli.text import ago
from runner.cli.values import Count, Duration, JobState, OneOf, Pair
from runner.errors import require_sound
from runner.wording import state_words

if TYPE_CHECKING:
    from runner.gcp.events import JobEvent
    from runner.gcp.session import Session
    from runner.gcp.tuning_jobs import TuningJob

_LOG_SECONDS = 1.0
"""Pause between two polls of a job."""


_SORTS = ("created", "loss", "validation")
_LOOKED_AT_ONCE = 8


@command(
    name="ls",
    examples=(
        "runner jobs ls",
        "runner jobs ls --state running --label team=search --since 7d",
        "runner jobs ls --losses --sort validation --label sweep=tone",
        "runner jobs ls -q --limit 1",
    ),
)
@click.option(
    "--state",
    "states",
    type=JobState(),
    multiple=True,
    shell_complete=completed("states"),
    help="Only jobs in this state: running, failed, …; repeatable.",
)
@click.option(
    "--label", "labels", type=Pair("team=search"), multiple=True, metavar="KEY=VALUE", help="Only jobs with this label."
)
@click.option("--since", type=Duration(), help="Only jobs created within this time, such as 7d.")
@click.option("--losses", is_flag=True, help="Also read and show each job's last losses.")
@click.option(
    "--sort", type=OneOf(_SORTS), default="created", show_default=True, help="Order; by a loss, lowest first."
)
@click.option("--limit", type=Count(1), default=20, show_default=True, help="Maximum number of jobs.")
@click.pass_obj
def ls(
    invocation: Invocation,
    states: tuple[str, ...],
    labels: tuple[str, ...],
    since: float | None,
    losses: bool,
    sort: str,
    limit: int,
) -> None:
    """List the tuning jobs of the location, newest first."""
    from runner.gcp import tuning_jobs

    wanted = _filter(states, labels)
    losses = losses or sort != "created"
    with invocation.session() as session:
        found = tuning_jobs.list_jobs(session, filter=wanted, limit=limit + 1)
        found, more = _recent(found, since), len(found) > limit
        found = found[:limit]
        measured = _measured(session, found) if losses else {}
        if not wanted and since is None:
            remember("jobs", jobs_named(found), target=str(session.environment.target))
    if sort != "created":
        key = "lastLoss" if sort == "loss" else "lastValidationLoss"
        found.sort(key=lambda job: measured[job.id].get(key, float("inf")))
    shown = (
        [
            [f"{measured[job.id].get(key, 0):.4f}" if key in measured[job.id] else "-" for key in _LOSSES]
            for job in found
        ]
        if losses
        else [[] for _ in found]
    )
    rows = [
        [
            job.id,
            state_words(job.state),
            job.display_name or "-",
            *values,
            job.base_model,
            job.mode,
            ago(job.create_time),
        ]
        for job, values in zip(found, shown, strict=True)
    ]
    invocation.output.table(
        ["id", "state", "name", *(_LOSSES.values() if losses else ()), "model", "mode", "created"],
        rows,
        body=[{**job.to_json(), **measured.get(job.id, {})} for job in found],
        names=[job.id for job in found],
        ids=(0,),
        states=(1,),
        numbers=(3, 4) if losses else (),
        droppable=("mode", "created", "model"),
        empty="no tuning jobs" + (" like that" if states or labels or since else ""),
    )
    if more:
        invocation.output.note(f"there are more: --limit {limit * 5}")


_LOSSES = {"lastLoss": "loss", "lastValidationLoss": "validation"}
"""Keys in the summary of a job's results, and headings."""


def _recent(jobs: list[TuningJob], since: float | None) -> list[TuningJob]:
    if since is None:
        return jobs
    import datetime

    oldest = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=since)
    return [job for job in jobs if job.create_time is not None and job.create_time >= oldest]


def _measured(session: Session, jobs: list[TuningJob]) -> dict[str, dict[str, Any]]:
    """Return the summaries of jobs' results by ID, with concurrent requests."""
    from concurrent.futures import ThreadPoolExecutor

    from runner.jobs.following.results import results_of

    with ThreadPoolExecutor(_LOOKED_AT_ONCE) as pool:
        return {
            job.id: results.summary()
            for job, results in zip(jobs, pool.map(lambda job: results_of(session, job), jobs), strict=True)
        }


@command(name="show", examples=("runner jobs show 1234567890", "runner jobs show latest --format json"))
@job_argument
@click.option("--raw", is_flag=True, help="Print the service's own representation as JSON.")
@click.pass_obj
def show(invocation: Invocation, job: str, raw: bool) -> None:
    """Show the details of a tuning job. JOB is an ID or its beginning, a name, or `latest`."""

    with invocation.session() as session:
        found = found_job(session, job)
    if raw:
        invocation.output.document(found.raw)
    else:
        invocation.output.result(found.to_json(), described(found), name=found.id)


@command(
    name="logs",
    examples=(
        "runner jobs logs latest",
        "runner jobs logs latest --follow",
        "runner jobs logs 1234567890 --events --format json",
    ),
)
@job_argument
@click.option("--events", "only_events", is_flag=True, help="Print only events, not the log of the training process.")
@click.option(
    "-f", "--follow", is_flag=True, help="Print new events until the job ends. Ctrl-C stops printing, not the job."
)
@click.pass_obj
def logs(invocation: Invocation, job: str, only_events: bool, follow: bool) -> None:
    """Print the events of a job, and then its training log if the service has one.

    With --format json, each event and each line of the log is a JSON object.
    """
    from runner.gcp import tuning_jobs

    with invocation.session() as session:
        found = found_job(session, job)
        tell_of_job(invocation, found)
        invocation.interrupted = f"to resume, run `runner jobs logs --follow {found.id}`" if follow else ""
        printer = _LogPrinter(invocation, session, found.name, only_events=only_events)
        while True:
            ended = tuning_jobs.get(session, found.name).ended
            printer.print_news()
            if ended or not follow:
                break
            time.sleep(_LOG_SECONDS)
        invocation.interrupted = ""
    printer.tell_missing()


class _LogPrinter:
    """Prints the new events and log lines of a job."""

    def __init__(self, invocation: Invocation, session: Session, name: str, *, only_events: bool) -> None:
        self.invocation = invocation
        self.session = session
        self.name = name
        self.only_events = only_events
        self.number = 0
        self.log: str | None = None

    def print_news(self) -> None:
        """Print what is new since the last call."""
        from runner.gcp import events

        for event in events.job_events(self.session, self.name, self.number):
            self.number = event.number
            self._print_event(event)
        if self.only_events:
            return
        before, now = self.log or "", events.job_log(self.session, self.name)
        # The service sends the end of a long log; it contains what was printed, or continues after it.
        fresh = now[len(before) :] if now is not None and now.startswith(before) else now or ""
        whole = fresh.rpartition("\n")[0] if now and not now.endswith("\n") else fresh
        for line in whole.splitlines():
            if self.invocation.output.is_json:
                self.invocation.output.document({"log": line}, lines=True)
            else:
                self.invocation.output.text(line)
        self.log = now if now is None or now.endswith("\n") else now[: len(now) - len(fresh) + len(whole)]

    def tell_missing(self) -> None:
        """Report what the service does not publish."""
        if not self.number:
            self.invocation.output.note("this service does not publish events of its jobs")
        if self.log is None and not self.only_events:
            self.invocation.output.note("this service does not publish training logs")

    def _print_event(self, event: JobEvent) -> None:
        from runner.jobs.following.event_texts import event_line

        output = self.invocation.output
        if output.is_json:
            output.document({"event": event.kind, "number": event.number, "time": event.time, **event.data}, lines=True)
            return
        output.text(f"{event.time}  {event_line(event)}")


def _filter(states: tuple[str, ...], labels: tuple[str, ...]) -> str:
    """Return the API's filter for states and labels. Raises ConfigurationError."""
    require_sound([f"--label {label!r} contains a quotation mark" for label in labels if '"' in label])
    parts = [f'labels.{key}="{value}"' for key, _, value in (label.partition("=") for label in labels)]
    if states:
        alternatives = " OR ".join(f'state="{state}"' for state in states)
        parts.append(f"({alternatives})" if len(states) > 1 else alternatives)
    return " AND ".join(parts)
