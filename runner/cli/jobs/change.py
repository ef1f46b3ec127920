"""`runner jobs cancel|clone`: change jobs, or create one from another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from runner.cli.commands import command
from runner.cli.cost_gate import require_confirmed
from runner.cli.jobs.group import found_job
from runner.cli.jobs.live import cost
from runner.cli.options import Invocation, cost_options, job_argument, replace_output_option
from runner.cli.values import Location, Pair
from runner.errors import require_sound
from runner.wording import state_words

if TYPE_CHECKING:
    from runner.gcp.session import Session
    from runner.gcp.tuning_jobs import TuningJob
    from runner.jobs.following.progress import Billed


@command(
    name="cancel", changes=True, examples=("runner jobs cancel 1234567890", "runner jobs cancel latest --yes --wait")
)
@job_argument
@click.option("--wait", "wait_for_it", is_flag=True, help="Wait until the job has ended.")
@click.pass_obj
def cancel(invocation: Invocation, job: str, wait_for_it: bool) -> None:
    """Cancel a tuning job and show what is billed for the training so far.

    JOB is an ID or its beginning, a name, or `latest`.

    If the job has ended in the meantime, cancelling does not change its state; the command prints the state that the
    service reports.
    """
    from runner.gcp import tuning_jobs
    from runner.jobs.following import watching

    with invocation.session() as session:
        found = found_job(session, job)
        used = _billed(session, found)
        if not found.ended:
            label = found.display_name or found.base_model
            so_far = f"; {cost(used)}" if used else ""
            question = f"Cancel job {found.id} ({label}, {state_words(found.state)}{so_far})?"
            require_confirmed(invocation, question, f"cancelling job {found.id}")
            tuning_jobs.cancel(session, found.name)
            found = tuning_jobs.get(session, found.name)
            if wait_for_it:
                for update in watching.watch(session, found.name):
                    found = update.job
            used = _billed(session, found)
        else:
            invocation.output.note(f"it had already ended: {state_words(found.state)}")
    body = {**found.to_json(), "billed": used.to_json() if used else None}
    billed = (
        f"; billed: {cost(used)}"
        if used
        else "; no tokens were counted, so nothing is billed as far as this tool knows"
    )
    invocation.output.result(body, f"{found.id} {state_words(found.state)}{billed}", name=found.id)


def _mistakes(invocation: Invocation, given: Mapping[str, Any]) -> list[str]:
    """Return the errors in the settings."""
    from runner.jobs.repeating.cloning import changed
    from runner.jobs.specification import TuningJobSpec

    problems: list[str] = []
    changed(TuningJobSpec(base_model="", training_dataset=""), given.get("settings", ()), problems)
    return problems


@command(
    name="clone",
    changes=True,
    checks=_mistakes,
    examples=(
        "runner jobs clone latest --set epochs=5 --set learning_rate=1e-4 --max-cost 20",
        "runner jobs clone 1234567890 --set training_dataset=corrected.jsonl --yes --watch",
        "runner jobs clone 1234567890 --set mode=FULL --dry-run",
        "runner jobs clone 1234567890 --to europe-west4",
    ),
)
@job_argument
@click.option(
    "--set",
    "settings",
    type=Pair("epochs=5", form="NAME=VALUE"),
    multiple=True,
    metavar="NAME=VALUE",
    help="Value to change; repeatable.",
)
@click.option(
    "--to", "target", type=Location(), metavar="LOCATION", help="Location of the new job [default: the job's]."
)
@cost_options
@click.option("--dry-run", is_flag=True, help="Show what would be submitted, its price and any obstacles.")
@click.option("--force-new", is_flag=True, help="Submit even if a job with the same specification exists.")
@replace_output_option
@click.option("--watch", "watch_it", is_flag=True, help="Show progress until the job ends.")
@click.pass_obj
def clone(
    invocation: Invocation,
    /,
    job: str,
    settings: tuple[str, ...],
    target: str | None,
    **how: Any,
) -> None:
    """Submit a job like JOB, with some values changed, after you confirm its price.

    If JOB failed or was cancelled, the command submits it again. If a job with the same specification is running or has
    succeeded, the command finds that job instead. NAME is a value of the specification: epochs, learning_rate,
    adapter_size, mode, base_model, training_dataset (a file is uploaded), validation_dataset, display_name, labels.KEY
    and so on. An empty VALUE sets the model's default. A changed job gets its own output folder.
    """
    from runner.cli.jobs.submit import submit_specification
    from runner.jobs.repeating.cloning import SETTING_HINT, changed, specification_of
    from runner.jobs.submitting.offers import mistakes

    problems: list[str] = []
    with invocation.session() as session:
        original = found_job(session, job)
        spec = changed(specification_of(session, original), settings, problems)
    others: dict[str, Any] = {"location": target} if target else {}
    with invocation.session(**others) as session:
        if problems:
            require_sound([*problems, *mistakes(spec, session.environment)], hint=SETTING_HINT)
        details = {"clonedFrom": original.name, "set": list(settings)}
        submit_specification(invocation, session, spec, details=details, **how)


def _billed(session: Session, job: TuningJob) -> Billed | None:
    from runner.gcp import events
    from runner.jobs.following.progress import billed, fraction_by

    return billed(job, fraction_by(job, events.job_events(session, job.name)))
