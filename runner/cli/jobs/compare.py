"""`runner jobs compare`: compare several jobs, the best first."""

from __future__ import annotations

import click

from runner.cli.commands import command
from runner.cli.completing import completed
from runner.cli.jobs.group import found_job
from runner.cli.options import Invocation
from runner.cli.stand_ins import tell_of_job
from runner.cli.text import amount
from runner.errors import ConfigurationError
from runner.wording import state_words


@command(
    name="compare",
    examples=(
        "runner jobs compare 1234567890 2345678901 latest",
        "runner jobs compare --sweep tone",
        "runner jobs compare --sweep tone --format json",
    ),
)
@click.argument("jobs", metavar="[JOB]...", nargs=-1, shell_complete=completed("jobs"))
@click.option("--sweep", metavar="NAME", help="The jobs of a manifest's sweep, or with the label sweep=NAME.")
@click.pass_obj
def compare(invocation: Invocation, jobs: tuple[str, ...], sweep: str | None) -> None:
    """Rank jobs: by best validation loss, then by list price; jobs without validation data come last.

    Columns show the parameters in which the jobs differ. `runner jobs diff` compares two jobs in every value.
    """
    from runner.gcp import fleet
    from runner.jobs.following.ranking import jobs_of_sweep, parameters, ranked
    from runner.jobs.following.results import results_of

    if not jobs and sweep is None:
        problem = "name the jobs to compare, or a sweep with --sweep"
        raise ConfigurationError(problem, hint="`runner jobs ls` lists jobs")
    with invocation.session() as session:
        found = {}
        for text in jobs:
            job = found_job(session, text)
            found[job.id] = job
        if sweep is not None:
            of_sweep = jobs_of_sweep(fleet.all_jobs(session), sweep)
            if not of_sweep:
                raise ConfigurationError(f"no job belongs to a sweep {sweep!r}", hint="`runner jobs ls` lists jobs")
            found |= {job.id: job for job in of_sweep}
        ranking = ranked(found.values(), {job.id: results_of(session, job) for job in found.values()})
        for job in found.values():
            tell_of_job(invocation, job)
    differing = [(title, values) for title, values, differ in parameters([item.job for item in ranking]) if differ]
    rows = [
        [
            number,
            item.job.id,
            item.job.display_name,
            state_words(item.job.state),
            _loss(item.validation_loss),
            _loss(item.last_loss),
            "-" if item.billed is None or item.billed.usd is None else amount(item.billed.usd),
            *(values[number - 1] for _, values in differing),
        ]
        for number, item in enumerate(ranking, 1)
    ]
    titles = [title for title, _ in differing]
    invocation.output.table(
        ["rank", "id", "name", "state", "validation loss", "training loss", "price", *titles],
        rows,
        body=[{"rank": number, **item.to_json()} for number, item in enumerate(ranking, 1)],
        names=[item.job.id for item in ranking],
        numbers=(0, 4, 5, 6),
        ids=(1,),
        droppable=("state", *reversed(titles)),
    )


def _loss(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
