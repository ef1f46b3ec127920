"""`runner jobs watch|wait|cancel`. Looking at a job never changes it; Ctrl-C ends only the looking."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from runner.cli.commands import command
from runner.cli.cost_gate import confirmed
from runner.cli.jobs import job_name, short_state
from runner.cli.options import Duration, Invocation
from runner.errors import ConfigurationError, JobFailedError, RunnerError

if TYPE_CHECKING:
    from runner.gcp.events import JobEvent
    from runner.gcp.session import Session
    from runner.gcp.tuning_jobs import TuningJob
    from runner.jobs.watching import JobUpdate


@command(
    name="watch",
    examples=("runner jobs watch latest", "runner jobs watch 1234567890 --timeout 2h30m --format json"),
)
@click.argument("job", metavar="JOB")
@click.option("--timeout", type=Duration(), metavar="TIME", help="Stop watching after this time; exit code 6.")
@click.pass_obj
def watch(invocation: Invocation, job: str, timeout: float | None) -> None:
    """Show a job's states and losses as they come, until it ends; exit code 5 if it fails.

    Ctrl-C ends the watching, not the job. With --format json each change is a line of its own. JOB is an id, a full
    name, or `latest`.
    """
    with invocation.session() as session:
        follow(invocation, session, job_name(session, job), timeout)


def follow(invocation: Invocation, session: Session, name: str, timeout: float | None = None) -> TuningJob:
    """Print a job's progress until it ends, and return it. Raises JobFailedError, WaitTimeoutError."""
    from runner.jobs import watching

    short = name.rsplit("/", 1)[-1]
    invocation.interrupted = f"the job goes on; `runner jobs watch {short}` comes back to it"
    job: TuningJob | None = None
    for update in watching.watch(session, name, timeout=timeout):
        job = update.job
        _print_update(invocation, update)
    invocation.interrupted = ""
    if job is None:
        raise RunnerError(f"the watch of job {short} ended without news")
    watching.check(job)
    return job


@command(
    name="wait",
    examples=(
        "runner jobs wait latest",
        "runner jobs wait 1234567890 2345678901 --timeout 6h",
        "runner jobs ls -q --state running | xargs runner jobs wait",
    ),
)
@click.argument("jobs", nargs=-1, required=True, metavar="JOB...")
@click.option("--timeout", type=Duration(), metavar="TIME", help="Give up after this time, for all together.")
@click.pass_obj
def wait(invocation: Invocation, jobs: tuple[str, ...], timeout: float | None) -> None:
    """Wait until every JOB has ended. Exit code 0 if all succeeded, 5 if one did not, 6 when the time is up."""
    import time

    from runner.jobs import watching

    deadline = None if timeout is None else time.monotonic() + timeout
    ended: list[TuningJob] = []
    with invocation.session() as session:
        for text in jobs:
            name = job_name(session, text)
            short = name.rsplit("/", 1)[-1]
            invocation.interrupted = f"the job goes on; `runner jobs wait {short}` comes back to it"
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            last = None
            for update in watching.watch(session, name, timeout=left):
                last = update.job
                if update.state_changed:
                    invocation.output.note(f"{short}: {short_state(update.job.detail_state or update.job.state)}")
            if last is not None:
                ended.append(last)
    rows = [[job.id, short_state(job.state), job.final_checkpoint_uri if job.succeeded else "-"] for job in ended]
    names = [job.id for job in ended]
    invocation.output.table(["id", "state", "weights"], rows, body=[job.to_json() for job in ended], names=names)
    failed = [job for job in ended if not job.succeeded]
    if len(failed) == 1:
        watching.check(failed[0])
    if failed:
        listed = ", ".join(f"{job.id} {short_state(job.state)}" for job in failed)
        raise JobFailedError(f"{len(failed)} of {len(ended)} jobs did not succeed: {listed}", state=failed[0].state)


@command(name="cancel", examples=("runner jobs cancel 1234567890", "runner jobs cancel latest --yes --wait"))
@click.argument("job", metavar="JOB")
@click.option("--wait", "wait_for_it", is_flag=True, help="Return when it has ended.")
@click.pass_obj
def cancel(invocation: Invocation, job: str, wait_for_it: bool) -> None:
    """Cancel a tuning job. What it has trained so far is billed. JOB is an id, a full name, or `latest`."""
    from runner.gcp import tuning_jobs
    from runner.jobs import watching

    with invocation.session() as session:
        found = tuning_jobs.get(session, job_name(session, job))
        if not found.ended:
            label = found.display_name or found.base_model
            if not (invocation.yes or confirmed(f"Cancel job {found.id} ({label}, {short_state(found.state)})?")):
                problem = f"cancelling job {found.id} was not confirmed"
                raise ConfigurationError(problem, problems=[problem], hint="--yes confirms it")
            tuning_jobs.cancel(session, found.name)
            found = tuning_jobs.get(session, found.name)
            if wait_for_it:
                for update in watching.watch(session, found.name):
                    found = update.job
    invocation.output.result(found.to_json(), f"{found.id} {short_state(found.state)}", name=found.id)


def _print_update(invocation: Invocation, update: JobUpdate) -> None:
    output = invocation.output
    if output.is_json:
        body: dict[str, Any] = {"id": update.job.id, "state": update.job.state}
        if update.job.detail_state:
            body["detailState"] = update.job.detail_state
        for event in update.events:
            output.document({**body, "event": event.kind, "time": event.time, **event.data}, lines=True)
        if update.state_changed:
            output.document({**body, "event": "state"}, lines=True)
        if update.problem:
            output.document({**body, "event": "problem", "message": update.problem}, lines=True)
        return
    for event in update.events:
        line = event_line(event)
        if line:
            output.text(line)
    if update.state_changed:
        detail = short_state(update.job.detail_state) if update.job.detail_state else ""
        state = short_state(update.job.state)
        output.text(f"{update.job.id}  {state}" + (f" ({detail})" if detail and detail != state else ""))
    if update.problem:
        output.warning(f"{update.problem}; still watching")


def event_line(event: JobEvent) -> str:
    """Return one line about an event, "" for one that says nothing to people."""
    data = event.data
    if event.kind == "step":
        total = data.get("total_steps", data.get("totalSteps"))
        of = f"/{total}" if total else ""
        return (
            f"  step {data.get('step')}{of}  epoch {_number(data.get('epoch'), 2)}  loss {_number(data.get('loss'), 4)}"
        )
    if event.kind == "evaluation":
        return f"  step {data.get('step')}  validation loss {_number(data.get('loss'), 4)}"
    if event.kind == "checkpoint":
        return f"  checkpoint {data.get('id')} after epoch {data.get('epoch')}, step {data.get('step')}"
    if event.kind == "failed":
        return f"  failed: {data.get('message')}"
    if event.kind == "message":
        return f"  {data.get('message') or data.get('text') or ''}".rstrip()
    return ""


def _number(value: Any, digits: int) -> str:
    return f"{value:.{digits}f}" if isinstance(value, (int, float)) else "?"
