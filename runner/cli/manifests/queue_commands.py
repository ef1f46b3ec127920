"""`runner queue`: jobs that wait for a slot of the quota."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from runner.cli import commands
from runner.cli.manifests.apply import raise_for, tell
from runner.cli.manifests.plan import fair_by_option, quota_option
from runner.cli.options import Invocation
from runner.cli.text import amount, duration
from runner.cli.values import Duration, Money
from runner.errors import GoogleApiError, UnreachableError, WaitTimeoutError, require_sound
from runner.wording import counted, state_words

if TYPE_CHECKING:
    from runner.gcp.session import Session
    from runner.jobs.manifests.claiming import Step

PATIENCE_SECONDS = 1800.0
"""How long the service can be unreachable before `queue run` ends."""

command = commands.Group(
    name="queue",
    help="List and run jobs that wait for quota. The queue is stored in the contract bucket, so any machine can "
    "continue it.",
    examples=("runner queue ls", "runner queue run --until-empty", "runner queue run --fair-by team"),
    lazy={
        "ls": ("runner.cli.manifests.queue_commands:ls", "List waiting jobs in the order of submission."),
        "run": ("runner.cli.manifests.queue_commands:run", "Submit waiting jobs as quota becomes available."),
    },
)


@commands.command(name="ls", examples=("runner queue ls", "runner queue ls --all --format json"))
@click.option("--all", "everything", is_flag=True, help="Include jobs that are submitted or have ended.")
@fair_by_option
@click.pass_obj
def ls(invocation: Invocation, everything: bool, fair_by: str) -> None:
    """List the queue in order, with each job's price and what it waits for."""
    from runner.jobs.manifests import looking, queueing
    from runner.jobs.manifests.records import StateLedger

    with invocation.session() as session:
        view = looking.look(session, StateLedger(session))
    order = queueing.ordered(view, view.entries, fair_by)
    others = [name for name in view.entries if name not in order] if everything else []
    rows, body = [], []
    for number, name in enumerate([*order, *others], 1):
        run = view.entries[name].record.run
        job = view.by_name.get(run.job)
        state = state_words(job.state if job else run.outcome.state if run.outcome else run.phase)
        place = number if name in order else None
        cost = "?" if run.price.expected is None else amount(run.price.expected)
        rows.append(
            [place, name, state, run.priority, run.queued[:19], cost, run.problem or run.after.partition("@")[0]]
        )
        item = {
            "place": place,
            "name": name,
            "state": state,
            "priority": run.priority,
            "queued": run.queued,
            "attempt": run.attempt,
            "job": run.job,
            "after": run.after.partition("@")[0],
            "usd": run.price.expected,
            "problem": run.problem,
            "deployment": run.deployment.model_dump(by_alias=True, exclude_defaults=True) if run.deployment else None,
            "labels": run.labels,
        }
        body.append({key: value for key, value in item.items() if value not in (None, "", {})})
    invocation.output.table(
        ["place", "name", "state", "priority", "queued", "price", "because"],
        rows,
        body=body,
        names=[*order, *others],
        numbers=(0, 3, 5),
        droppable=("priority", "queued", "place"),
        empty="nothing waits",
    )


@commands.command(
    name="run",
    changes=True,
    examples=(
        "runner queue run --until-empty",
        "runner queue run --quota 2 --interval 1m",
        "runner queue run --once",
        "runner queue run --place team-a/us-central1 --place team-b/us-central1 --fair-by team --budget 5000",
    ),
)
@quota_option
@click.option(
    "--place",
    "places",
    multiple=True,
    metavar="PROJECT/LOCATION",
    help="Where jobs may run, repeatable; each project has its own quota [default: the environment's].",
)
@click.option(
    "--budget", type=Money(), help="Limit for the total cost of all jobs of the queue, whichever runner submits them."
)
@fair_by_option
@click.option("--interval", type=Duration(), default=30.0, help="Polling interval [default: 30s].")
@click.option("--once", is_flag=True, help="Check once and exit.")
@click.option("--until-empty", is_flag=True, help="Exit when no job waits and every job has ended.")
@click.option("--timeout", type=Duration(), help="Exit after this time, with exit code 6.")
@click.option("--no-deploy", is_flag=True, help="Ignore the deploy sections of the manifests.")
@click.pass_obj
def run(
    invocation: Invocation,
    /,
    quota: int | None,
    places: tuple[str, ...],
    budget: float | None,
    fair_by: str,
    interval: float,
    once: bool,
    until_empty: bool,
    timeout: float | None,
    no_deploy: bool,
) -> None:
    """Submit waiting jobs as quota becomes available, retry failed jobs, and deploy finished ones.

    Several can run at the same time; each job is created once, and the cost of all jobs stays within --budget. If a
    place does not answer, it gets no new jobs, and jobs that it may already have wait for it. Ctrl-C does not change
    jobs or queue. With --format json, each event is a line.
    """
    from runner.gcp import failures
    from runner.jobs.manifests.places import parse_place

    named = [parse_place(text) for text in places]
    start = time.monotonic()
    said: dict[str, str] = {}
    latest: dict[str, Step] = {}
    lost_since: float | None = None
    fit: list[tuple[str, str]] | None = None
    invocation.interrupted = "jobs continue and the queue waits: run `runner queue run` again to continue"
    with invocation.session() as session:
        while True:
            try:
                if fit is None:
                    fit = _fit(invocation, session, named)
                steps, left = _look(invocation, session, quota, fair_by, said, fit, budget, deploy=not no_deploy)
                lost_since = None
                latest.update((step.name, step) for step in steps)
            except (UnreachableError, GoogleApiError) as error:
                if once or not failures.may_pass(error):
                    raise
                lost_since = time.monotonic() if lost_since is None else lost_since
                if time.monotonic() - lost_since > PATIENCE_SECONDS:
                    raise
                invocation.output.note(f"{error.message}; trying again")
                steps, left = [], 1
            if once:
                raise_for(steps)
                break
            if until_empty and not left:
                raise_for(list(latest.values()))
                break
            if timeout is not None and time.monotonic() - start + interval > timeout:
                if not left:
                    raise_for(list(latest.values()))
                    break
                raise WaitTimeoutError(
                    f"unfinished: {counted(left, 'job')} after {duration(time.monotonic() - start)}; they continue",
                    hint="run `runner queue run` again to continue",
                )
            time.sleep(interval)
    invocation.interrupted = ""


def _look(
    invocation: Invocation,
    session: Session,
    quota: int | None,
    fair_by: str,
    said: dict[str, str],
    named: list[tuple[str, str]],
    budget: float | None,
    *,
    deploy: bool,
) -> tuple[list[Step], int]:
    """Run one pass; return the steps and the number of waiting or running jobs."""
    from runner.gcp import fleet
    from runner.jobs.manifests import looking, queueing
    from runner.jobs.manifests.places import Place
    from runner.jobs.manifests.records import StateLedger
    from runner.serving.manifests.deploying import deploy_finished

    def happened(step: Step) -> None:
        news = f"{step.what} {step.message if step.what not in ('elsewhere', 'uncertain') else ''}"
        if said.get(step.name) == news:
            return
        said[step.name] = news
        if invocation.output.is_json:
            invocation.output.document(step.to_json(), lines=True)
        else:
            tell(invocation, step)

    def deployed(body: dict[str, Any]) -> None:
        if invocation.output.is_json:
            invocation.output.document(body, lines=True)

    limit = quota
    if limit is None and not named:
        limit = fleet.tuning_quota(session).limit
    places = [Place(*one, fleet.tuning_quota(session.at(*one)).limit if quota is None else quota) for one in named]
    steps = queueing.advance(
        session, limit=limit or 0, fair_by=fair_by, places=places, budget=budget, progress=happened
    )
    if deploy:
        deploy_finished(session, tell=invocation.output.note, result=deployed, said=said)
    view = looking.look(session, StateLedger(session), places=places)
    blocked = {step.name for step in steps if step.what == "blocked"}
    return steps, queueing.unfinished(view, blocked)


def _fit(invocation: Invocation, session: Session, named: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the places whose jobs can read the data of waiting jobs; warn of others. Raises ConfigurationError."""
    from runner.jobs.manifests import places
    from runner.jobs.manifests.records import StateLedger

    runs = [entry.record.run for entry in StateLedger(session).load().entries.values() if named]
    fit, problems = [], []
    for project, location in named:
        found = places.obstacles(session, (project, location), runs)
        if not found:
            fit.append((project, location))
            continue
        problems.append(f"{project}/{location}: {found[0]}")
        invocation.output.warning(f"{project}/{location} is not used: {found[0]}")
    if not fit:
        require_sound(problems, hint="run `runner doctor` in each project")
    return fit
