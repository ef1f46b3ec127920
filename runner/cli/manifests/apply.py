"""`runner apply`: apply manifests or a saved plan, at an approved price."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runner.cli import commands
from runner.cli.cost_gate import require_confirmed, terms
from runner.cli.manifests.plan import fair_by_option, manifest_options, planned
from runner.cli.options import Invocation, cost_options, replace_output_option
from runner.cli.values import FILE
from runner.errors import AmbiguousSubmissionError, ConfigurationError, CostRefusedError, GoogleApiError, RunnerError
from runner.prices import Price
from runner.wording import counted

if TYPE_CHECKING:
    from runner.gcp.session import Session
    from runner.jobs.manifests.claiming import Step
    from runner.jobs.manifests.planning import Plan


@commands.command(
    name="apply",
    changes=True,
    examples=(
        "runner apply -f jobs/ --max-cost 50",
        "runner plan -f jobs/ --out plan.json && runner apply plan.json --yes",
        "runner apply -f jobs/ --prune --yes",
    ),
)
@click.argument("saved", metavar="[PLAN]", required=False, type=FILE)
@manifest_options
@replace_output_option
@cost_options
@fair_by_option
@click.option("--no-deploy", is_flag=True, help="Ignore the deploy sections of the manifests.")
@click.pass_obj
def command(
    invocation: Invocation,
    /,
    saved: Path | None,
    fair_by: str,
    no_deploy: bool,
    **choices: Any,
) -> None:
    """Create the tuning jobs that manifests, or a saved PLAN, describe. Run it again to continue; nothing is repeated.

    Jobs beyond the quota wait in the queue: the next `apply`, or `runner queue run`, submits them. A saved plan is
    refused if anything has changed since. A maxCost in a manifest both limits and approves the price; jobs without it
    need --yes, or --max-cost, which applies to the total.
    """
    from runner.jobs.manifests import applying
    from runner.jobs.preflight.obstacles import require_none

    output = invocation.output
    with invocation.session() as session:
        if saved is None:
            plan = planned(invocation, session, **choices)
        else:
            plan = _saved_plan(invocation, session, saved, choices)
        if not output.is_json and not output.quiet:
            from runner.cli.manifests import report

            output.note(report.text(plan))
        agree(invocation, plan)
        require_none(plan.findings)
        invocation.interrupted = "submitted jobs continue and queued jobs wait: run `runner apply` again to continue"
        steps = applying.apply_plan(session, plan, fair_by=fair_by, progress=lambda step: tell(invocation, step))
        deployments: list[dict[str, Any]] = []
        failed: RunnerError | None = None
        if not no_deploy:
            from runner.serving.manifests.deploying import deploy_finished

            try:
                deploy_finished(session, tell=output.note, result=deployments.append)
            except RunnerError as error:
                failed = error  # after the result, because jobs were submitted
        invocation.interrupted = ""
    queued = [step.name for step in steps if step.what in ("waiting", "blocked")]
    created = [step for step in steps if step.what == "created"]
    adopted = [step for step in steps if step.what == "adopted"]
    body = {
        "summary": plan.summary,
        "steps": [step.to_json() for step in steps],
        "submitted": [step.name for step in created],
        "adopted": [step.name for step in adopted],
        "queued": queued,
        "deployments": deployments,
        "cost": plan.cost,
    }
    found = f"{len(adopted)} adopted, " if adopted else ""
    text = f"{len(created)} submitted, {found}{len(queued)} in the queue" if steps or deployments else "nothing to do"
    output.result(body, text, name=[step.job.rsplit("/", 1)[-1] for step in [*created, *adopted]])
    if queued:
        output.note("next: `runner queue run` submits them as quota becomes available")
    raise_for(steps)
    if failed is not None:
        raise failed


def agree(invocation: Invocation, plan: Plan) -> None:
    """Return if the cost and the cancellations of a plan are approved. Raises CostRefusedError, ConfigurationError."""
    from runner.jobs.manifests import budget

    refused = budget.refusals(plan, accept_unknown_cost=invocation.accept_unknown_cost)
    if refused:
        shown = "\n".join(refused)
        raise CostRefusedError(
            f"nothing was submitted:\n{shown}",
            hint="continue without a price with --accept-unknown-cost"
            if "no price" in shown
            else "raise maxCost in the manifest",
        )
    prices = plan.billable if invocation.max_cost is not None else budget.without_limit(plan)
    high = sum(job.worst or 0.0 for job in prices)
    if prices and (high or not plan.cost["unknown"]):
        expected = sum(job.price.expected or 0.0 for job in prices)
        price = Price(what=counted(len(prices), "tuning job"), usd=high, expected=expected)
        terms(invocation).require(price)
    cancelled = [item for item in plan.removed if item.action == "cancel"]
    if cancelled:
        count = counted(len(cancelled), "job")
        require_confirmed(invocation, f"Cancel {count}?", f"cancelling {count}")


def tell(invocation: Invocation, step: Step) -> None:
    """Print the result for one job on standard error."""
    job = f" {step.job.rsplit('/', 1)[-1]}" if step.job else ""
    invocation.output.note(f"{step.name}: {step.what}{job}" + (f" ({step.message})" if step.message else ""))


def raise_for(steps: list[Step]) -> None:
    """Raise the most serious error of the results.

    Raises:
        AmbiguousSubmissionError: a job may or may not have been created.
        GoogleApiError: the service refused a job.
    """
    uncertain = [step for step in steps if step.what in ("uncertain", "elsewhere")]
    if uncertain:
        raise AmbiguousSubmissionError(
            "; ".join(f"{step.name}: {step.message}" for step in uncertain),
            hint="run `runner apply` again after that time: it finds a job that was created by its labels",
        )
    refused = [step for step in steps if step.what == "refused"]
    if refused:
        raise GoogleApiError(
            "; ".join(f"{step.name}: {step.message}" for step in refused),
            status="FAILED_PRECONDITION",
            http=400,
            method="tuningJobs.create",
            hint="correct the manifest and apply again; a refused job is not billed",
        )


def _saved_plan(invocation: Invocation, session: Session, saved: Path, choices: dict[str, Any]) -> Plan:
    from runner.jobs.manifests import applying

    if choices["paths"]:
        raise ConfigurationError("a saved plan already names its manifests: omit -f")
    body = applying.read_plan(saved)
    named = {"paths": tuple(Path(str(path)) for path in body["paths"]), "prune": bool(body.get("prune"))}
    plan = planned(invocation, session, **{**choices, **named})
    applying.check_unmoved(body, plan)
    return plan
