"""`runner jobs metrics|diff`: the measurements of jobs, and their differences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from runner import local_files
from runner.cli.commands import command
from runner.cli.completing import completed
from runner.cli.jobs.group import found_job
from runner.cli.options import Invocation, job_argument, require_absent
from runner.cli.stand_ins import tell_of_job
from runner.cli.values import FILE, OneOf
from runner.wording import counted


@command(
    name="metrics",
    examples=(
        "runner jobs metrics latest --to losses.csv",
        "runner jobs metrics 1234567890 --as jsonl --to losses.jsonl",
    ),
)
@job_argument
@click.option(
    "--as", "form", type=OneOf(["csv", "jsonl"]), help="File format [default: csv; jsonl with --format json]."
)
@click.option("--to", type=FILE, help="File to write [default: standard output].")
@click.option("--force", is_flag=True, help="Overwrite FILE.")
@click.pass_obj
def metrics(invocation: Invocation, job: str, form: Any, to: Path | None, force: bool) -> None:
    """Export the training and validation losses of JOB, one per line, for pandas, a spreadsheet or a tracker."""
    from runner.jobs.following.results import export, require_measurements, results_of

    form = form or ("jsonl" if invocation.output.is_json else "csv")
    if to is not None:
        require_absent(to, force=force)
    with invocation.session() as session:
        found = found_job(session, job)
        results = results_of(session, found)
        tell_of_job(invocation, found, rates=True)
    require_measurements(found, results)
    text = export(results, form)
    if to is None:
        invocation.output.piece(text)
        return
    local_files.replace(to, text, hint="free disk space, or name another file with --to")
    count = len(results.measurements)
    body = {"file": str(to), "measurements": count, "source": results.source, **results.summary()}
    invocation.output.result(body, f"{counted(count, 'measurement')} in {to}", name=str(to))


@command(
    name="diff",
    examples=("runner jobs diff 1234567890 2345678901", "runner jobs diff 1234567890 latest --all --format json"),
)
@click.argument("first", metavar="JOB", shell_complete=completed("jobs"))
@click.argument("second", metavar="JOB", shell_complete=completed("jobs"))
@click.option("--all", "everything", is_flag=True, help="Also show what is equal.")
@click.pass_obj
def diff(invocation: Invocation, first: str, second: str, everything: bool) -> None:
    """Compare two jobs and show what differs: configuration, data, results."""
    from runner.jobs.following.comparing import compare

    with invocation.session() as session:
        jobs = [found_job(session, job) for job in (first, second)]
        found = compare(session, jobs[0], jobs[1])
        for job in jobs:
            tell_of_job(invocation, job)
    shown = [item for item in found if everything or not item.same]
    invocation.output.table(
        ["section", "value", jobs[0].id, jobs[1].id],
        [[item.section, item.name, item.first, item.second] for item in shown],
        body={"jobs": [job.id for job in jobs], "values": [item.to_json() for item in shown]},
        names=[item.name for item in shown],
        droppable=("section",),
        empty="the jobs do not differ",
    )
