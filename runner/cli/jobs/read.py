"""`runner jobs ls|show`."""

from __future__ import annotations

import click

from runner.cli.commands import command
from runner.cli.jobs.group import described, job_name, moment, short_state
from runner.cli.options import Invocation
from runner.errors import ConfigurationError


@command(
    name="ls",
    examples=(
        "runner jobs ls",
        "runner jobs ls --state running --label team=search",
        "runner jobs ls -q --limit 1",
    ),
)
@click.option("--state", "states", multiple=True, metavar="STATE", help="Only jobs in this state: running, failed, …")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="Only jobs with this label.")
@click.option(
    "--limit", type=click.IntRange(1), default=20, show_default=True, metavar="N", help="Maximum number of jobs."
)
@click.pass_obj
def ls(invocation: Invocation, states: tuple[str, ...], labels: tuple[str, ...], limit: int) -> None:
    """List the tuning jobs of the location, newest first."""
    from runner.gcp import tuning_jobs

    with invocation.session() as session:
        found = tuning_jobs.list_jobs(session, filter=_filter(states, labels), limit=limit + 1)
    more, found = len(found) > limit, found[:limit]
    rows = [
        [job.id, short_state(job.state), job.base_model, job.mode, moment(job.create_time), job.display_name or "-"]
        for job in found
    ]
    invocation.output.table(
        ["id", "state", "model", "mode", "created", "name"],
        rows,
        body=[job.to_json() for job in found],
        names=[job.id for job in found],
        empty="no tuning jobs",
    )
    if more:
        invocation.output.note(f"there are more: --limit {limit * 5}")


@command(name="show", examples=("runner jobs show 1234567890", "runner jobs show latest --format json"))
@click.argument("job", metavar="JOB")
@click.option("--raw", is_flag=True, help="Print the service's own representation as JSON.")
@click.pass_obj
def show(invocation: Invocation, job: str, raw: bool) -> None:
    """Show everything about a tuning job. JOB is an ID, a full name, or `latest`."""
    from runner.gcp import tuning_jobs

    with invocation.session() as session:
        found = tuning_jobs.get(session, job_name(session, job))
    if raw:
        invocation.output.document(found.raw)
    else:
        invocation.output.result(found.to_json(), described(found), name=found.id)


@command(
    name="logs",
    examples=("runner jobs logs latest", "runner jobs logs 1234567890 --events --format json"),
)
@click.argument("job", metavar="JOB")
@click.option("--events", "only_events", is_flag=True, help="Print only events, not the log of the training process.")
@click.pass_obj
def logs(invocation: Invocation, job: str, only_events: bool) -> None:
    """Print the events of a job, and then its training log if the service has one.

    With --format json, each event and each line of the log is a JSON object.
    """
    from runner.cli.jobs.follow import event_line
    from runner.gcp import events, tuning_jobs

    output = invocation.output
    with invocation.session() as session:
        found = tuning_jobs.get(session, job_name(session, job))
        story = events.job_events(session, found.name)
        log = None if only_events else events.job_log(session, found.name)
    for event in story:
        if output.is_json:
            output.document({"event": event.kind, "number": event.number, "time": event.time, **event.data}, lines=True)
        else:
            state = short_state(str(event.data.get("detail") or event.data.get("state", "")))
            text = event_line(event).strip() or f"{event.kind} {state} {event.data.get('message', '')}".strip()
            output.text(f"{event.time}  {text}")
    for line in (log or "").splitlines():
        if output.is_json:
            output.document({"log": line}, lines=True)
        else:
            output.text(line)
    if not story:
        output.note("this service does not publish events of its jobs")
    if log is None and not only_events:
        output.note("this service does not publish training logs")


def _filter(states: tuple[str, ...], labels: tuple[str, ...]) -> str:
    """Return the API's filter for a choice of states and labels. Raises ConfigurationError."""
    problems = [f"--label {label!r} is not KEY=VALUE" for label in labels if "=" not in label]
    problems += [f"--{name} {text!r} contains a quotation mark" for name, text in _each(states, labels) if '"' in text]
    if problems:
        raise ConfigurationError("; ".join(problems), problems=problems)
    parts = [f'labels.{key}="{value}"' for key, _, value in (label.partition("=") for label in labels)]
    full = [f"JOB_STATE_{state.upper().removeprefix('JOB_STATE_').replace(' ', '_')}" for state in states]
    if full:
        alternatives = " OR ".join(f'state="{state}"' for state in full)
        parts.append(f"({alternatives})" if len(full) > 1 else alternatives)
    return " AND ".join(parts)


def _each(states: tuple[str, ...], labels: tuple[str, ...]) -> list[tuple[str, str]]:
    return [("state", state) for state in states] + [("label", label) for label in labels]
