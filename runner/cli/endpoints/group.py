"""`runner endpoints`: deploy and undeploy tuned models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runner.cli import commands
from runner.cli.completing import completed, endpoints_named, remember
from runner.cli.cost_gate import require_confirmed, terms
from runner.cli.endpoints.check import check_options
from runner.cli.endpoints.lease import lease_options, seconds_or_none
from runner.cli.endpoints.resources import resource_choices, resource_options
from runner.cli.options import Invocation, cost_options, endpoint_argument
from runner.cli.stand_ins import tell_of_answers
from runner.cli.text import amount, duration, until
from runner.cli.values import Count, Duration, Money
from runner.errors import GoogleApiError

if TYPE_CHECKING:
    from runner.environment import Environment
    from runner.gcp.session import Session
    from runner.serving.lives import Life

_LIFE = ("age", "spent", "lease ends", "idle limit", "last request")
"""The displayed data about a deployment's lifetime."""

command = commands.Group(
    name="endpoints",
    help="Serve tuned models. A deployed model is billed by the hour, with or without requests, until you undeploy it.",
    examples=(
        "runner endpoints deploy latest --max-cost 2.50",
        "runner endpoints ls",
        "runner endpoints undeploy 1234567890 --delete",
    ),
    lazy={
        "deploy": ("runner.cli.endpoints.group:deploy", "Deploy a job's weights at an agreed hourly price."),
        "ls": ("runner.cli.endpoints.group:ls", "List endpoints and their hourly prices."),
        "show": ("runner.cli.endpoints.group:show", "Show an endpoint."),
        "undeploy": ("runner.cli.endpoints.group:undeploy", "Undeploy a model, which ends its billing."),
        "check": ("runner.cli.endpoints.check:check", "Verify that the deployed model is the one you trained."),
        "traffic": ("runner.cli.endpoints.traffic:traffic", "Show or set the traffic split."),
        "canary": ("runner.cli.endpoints.traffic:canary", "Send a share of the traffic to a model and watch it."),
        "promote": ("runner.cli.endpoints.traffic:promote", "Send all traffic to a model."),
        "rollback": ("runner.cli.endpoints.traffic:rollback", "Take all traffic away from a model."),
        "extend": ("runner.cli.endpoints.lease:extend", "Extend the lease of a deployment."),
    },
)


def _mistakes(invocation: Invocation, given: Mapping[str, Any]) -> list[str]:
    """Return the errors in the options that could be converted."""
    from runner.serving.plan import mistakes

    names = ("machine_type", "accelerator_type", "accelerator_count", "endpoint")
    choices = resource_choices(dict(given))
    asked: dict[str, Any] = {name: given.get(name) for name in names}
    return mistakes(str(given.get("source", "")), **asked, percent=given.get("percent", 100), **choices)


@commands.command(
    name="deploy",
    changes=True,
    checks=_mistakes,
    examples=(
        "runner endpoints deploy latest --max-cost 2.50",
        "runner endpoints deploy 1234567890 --checkpoint 2 --yes",
        "runner endpoints deploy gs://my-bucket/weights --machine-type g2-standard-12",
        "runner endpoints deploy latest --max-replicas 4 --autoscale gpu=60 --max-cost 5",
    ),
)
@click.argument("source", metavar="JOB|gs://…", shell_complete=completed("jobs"))
@click.option("--checkpoint", default="final", show_default=True, metavar="ID", help="Checkpoint of the job to deploy.")
@click.option(
    "--machine-type", metavar="TYPE", help="Machine type [default: the model's, otherwise the service's choice]."
)
@click.option(
    "--accelerator-type", metavar="TYPE", help="Accelerator type, for machine types that are not in the catalog."
)
@click.option("--accelerator-count", type=Count(1), help="Number of accelerators.")
@click.option(
    "--name",
    "display_name",
    default="",
    metavar="TEXT",
    help="Display name of the endpoint and the model [default: the job's].",
)
@click.option(
    "--endpoint",
    metavar="ID",
    shell_complete=completed("endpoints"),
    help="Existing endpoint to deploy to: ID or name.",
)
@click.option(
    "--percent",
    type=Count(1, 100),
    default=100,
    show_default=True,
    help="Share of the traffic on --endpoint, in percent; below 100, the models that serve there stay.",
)
@resource_options
@check_options
@lease_options
@cost_options
@click.option(
    "--max-hourly-cost",
    type=Money(),
    envvar="RUNNER_MAX_HOURLY_COST",
    show_envvar=True,
    help="Refuse if the hourly price of all endpoints in the location could exceed this.",
)
@click.option(
    "--timeout", type=Duration(), default=3600.0, help="How long to wait until the model answers [default: 1h]."
)
@click.option("--no-wait", is_flag=True, help="Return as soon as the service accepts the request.")
@click.option("--dry-run", is_flag=True, help="Show what would be deployed and its price, without changing anything.")
@click.pass_obj
def deploy(
    invocation: Invocation,
    /,
    source: str,
    max_hourly_cost: float | None,
    check_file: Path | None,
    check_base: str | None,
    lease: float,
    idle_limit: float,
    timeout: float,
    no_wait: bool,
    dry_run: bool,
    **choices: Any,
) -> None:
    """Deploy the weights of a job, or of a folder in Cloud Storage, and wait until they answer.

    Here, --max-cost is in US dollars per hour for the maximum number of replicas. If a deployment fails, the command
    removes what it created; after an interruption, the next command does so. JOB is an ID or its
    beginning, a name, or `latest`.
    """
    from runner.cli.jobs.group import job_name
    from runner.serving import deploying, listing
    from runner.serving.deploying import ParityCheck
    from runner.serving.leases import ending, starting
    from runner.serving.plan import plan_deployment

    output = invocation.output
    choices |= resource_choices(choices)
    with invocation.session() as session:
        plan = plan_deployment(
            session,
            job_name(session, source),
            lease_seconds=seconds_or_none(lease),
            idle_seconds=seconds_or_none(idle_limit),
            **choices,
        )
        machine = plan.machine.machine_type if plan.machine else None
        if dry_run:
            pairs = [("weights", plan.source), ("name", plan.display_name), ("machine", machine)]
            output.result(plan.to_json(), [*pairs, *_prices(plan), ("endpoint", plan.endpoint or "a new one")])
            output.note("dry run: nothing was changed")
            return
        if plan.usd_per_month is not None:
            output.note(f"per month: {dict(_prices(plan))['per month']}")
        looks = ParityCheck(file=check_file, base=check_base) if check_file is not None else None

        def agreed() -> None:
            invocation.interrupted = "`runner leaks --clean`, or the next deployment, removes what was made so far"

        try:
            endpoint = deploying.deploy(
                session,
                plan,
                terms=terms(invocation, verb="Deploy"),
                max_hourly_cost=max_hourly_cost,
                check=looks,
                wait=not no_wait,
                timeout=timeout,
                tell=output.note,
                agreed=agreed,
            )
        finally:
            for finding in looks.findings if looks else ():
                output.note(f"{finding.state}: {finding.check}: {finding.message}")
        invocation.interrupted = ""
        described = listing.describe(endpoint)
        tell_of_answers(invocation, session, endpoint)
        now = session.now()
        begun = starting(plan.lease_seconds, plan.idle_seconds, now=now)
        billed = ending(session.environment, begun, endpoint.id, now=now)
        pairs = _pairs(session.environment, described)
    output.result(described.to_json(), pairs, name=endpoint.id)
    output.note(billed)
    output.note(f"next: `runner chat --endpoint {endpoint.id}`")


@commands.command(name="ls", examples=("runner endpoints ls", "runner endpoints ls --all --format json"))
@click.option("--all", "everything", is_flag=True, help="Include endpoints that this tool did not create.")
@click.pass_obj
def ls(invocation: Invocation, everything: bool) -> None:
    """List endpoints with hourly price, age, spend, lease and last request; billed endpoints come first.

    Spend is the list price of the models that are deployed now. The last request comes from Cloud Monitoring, with a
    delay of some minutes.
    """
    from runner.serving.listing import list_deployments
    from runner.serving.lives import lives

    with invocation.session() as session:
        found = list_deployments(session, only_ours=not everything)
        known = lives(session, [item.endpoint for item in found])
        _mention_unfinished(invocation, session)
        every = [item.endpoint for item in found]
        now = session.now() if found else 0.0
        remember("endpoints", endpoints_named(every), target=str(session.environment.target))
    rows = []
    for item in found:
        price = "?" if item.usd_per_hour is None else amount(item.usd_per_hour)
        machines = {model.machine.machine_type for model in item.endpoint.deployed_models if model.machine}
        models = len(item.endpoint.deployed_models)
        life = dict(_life_pairs(known[item.endpoint.id], now) if item.billed else ())
        rows.append(
            [
                item.endpoint.id,
                item.endpoint.display_name,
                models,
                ", ".join(sorted(machines)) or "-",
                price,
                *(life.get(label, "-") for label in _LIFE),
            ]
        )
    invocation.output.table(
        ["id", "name", "models", "machine", "USD/hour", *_LIFE],
        rows,
        body=[{**item.to_json(), **known[item.endpoint.id].to_json()} for item in found],
        names=[item.endpoint.id for item in found],
        numbers=(2, 4),
        ids=(0,),
        droppable=("machine", "models", "idle limit", "age", "last request", "name"),
        empty="no endpoints" if everything else "no endpoints of this tool; --all also lists others",
    )
    total = sum(item.usd_per_hour or 0.0 for item in found)
    if total:
        invocation.output.note(f"together {amount(total)} per hour, {amount(24 * total)} per day")


def _mention_unfinished(invocation: Invocation, session: Session) -> None:
    """Warn of deployments whose command was interrupted."""
    from runner.serving.recovery import abandoned_records

    found = [record for record in abandoned_records(session) if record.phase != "handed over"]
    if found:
        names = ", ".join(record.endpoint.rsplit("/", 1)[-1] for record in found)
        invocation.output.warning(f"a deployment was interrupted on {names}: `runner leaks --clean` resolves it")


@commands.command(name="show", examples=("runner endpoints show 1234567890",))
@click.argument("endpoint", metavar="[ENDPOINT]", required=False, shell_complete=completed("endpoints"))
@click.pass_obj
def show(invocation: Invocation, endpoint: str | None) -> None:
    """Show an endpoint. ENDPOINT is an ID, a name or a full name [default: the environment's, or the only one]."""
    from runner.serving.listing import describe
    from runner.serving.lives import lives
    from runner.serving.prediction import resolve_endpoint

    with invocation.session() as session:
        resolved = resolve_endpoint(session, endpoint)
        found, life = describe(resolved), lives(session, [resolved])[resolved.id]
        tell_of_answers(invocation, session, resolved)
        now = session.now()
        pairs = _pairs(session.environment, found)
    pairs[-1:-1] = _life_pairs(life, now) if found.billed else []
    invocation.output.result({**found.to_json(), **life.to_json()}, pairs, name=found.endpoint.id)


def _life_pairs(life: Life, now: float) -> list[tuple[str, str]]:
    """Return lease, idle limit, age, spend and last request as texts, in the order of `_LIFE`."""
    ends = "none" if life.lease.until is None else until(life.lease.until - now)
    idle = "none" if life.lease.idle is None else duration(life.lease.idle)
    never = life.quiet is not None and life.age is not None and life.age - life.quiet < 1
    last = "unknown" if life.quiet is None else "never" if never else f"{duration(life.quiet)} ago"
    age = "unknown" if life.age is None else duration(life.age)
    spent = "unknown" if life.usd is None else amount(life.usd)
    return list(zip(_LIFE, (age, spent, ends, idle, last), strict=True))


@commands.command(
    name="undeploy",
    changes=True,
    examples=("runner endpoints undeploy 1234567890", "runner endpoints undeploy my-model --delete --yes"),
)
@endpoint_argument
@click.option("--delete", is_flag=True, help="Also delete the endpoint.")
@click.option("--model", "only", metavar="ID", help="Model to undeploy [default: all that this tool deployed].")
@click.pass_obj
def undeploy(invocation: Invocation, endpoint: str, delete: bool, only: str | None) -> None:
    """Undeploy this tool's models from ENDPOINT, which ends their billing. Other models stay."""
    from runner.serving.deployment import removable
    from runner.serving.deployment import undeploy as take_down
    from runner.serving.prediction import resolve_endpoint

    with invocation.session() as session:
        found = resolve_endpoint(session, endpoint)
        removable(session, found, delete=delete, only=only)
        what = f"{found.id} ({found.display_name})" if found.display_name else found.id
        require_confirmed(invocation, f"Stop serving on endpoint {what}?", f"undeploying from endpoint {found.id}")
        removed = take_down(session, found, delete=delete, only=only, progress=invocation.output.note)
    text = "\n".join(f"removed {name}" for name in removed) or "nothing was deployed"
    invocation.output.result({"removed": removed}, text, name=removed)
    gone = sum("/deployedModels/" in name for name in removed)
    if gone and gone == len(found.deployed_models) and not delete:
        invocation.output.note(f"the empty endpoint stays, without cost: deploy to it with --endpoint {found.id}")


def _prices(plan: Any) -> list[tuple[str, Any]]:
    """Return the price of a plan with its minimum and maximum number of replicas."""
    if plan.usd_per_hour is None:
        return [("per hour", "unknown")]

    def between(least: float, most: float) -> str:
        return amount(most) if least == most else f"{amount(least)} to {amount(most)}"

    spot = ", less on spot machines" if plan.resources.spot else ""
    return [
        ("per hour", between(plan.least_usd_per_hour, plan.usd_per_hour) + spot),
        ("per month", between(*plan.usd_per_month) + spot),
    ]


def _pairs(environment: Environment, found: Any) -> list[tuple[str, Any]]:
    from runner.gcp.endpoints import own_base

    endpoint = found.endpoint
    pairs: list[tuple[str, Any]] = [("id", endpoint.id), ("name", endpoint.display_name)]
    for model in endpoint.deployed_models:
        machine = model.machine.machine_type if model.machine else None
        traffic = endpoint.traffic.get(model.id)
        parts = [model.display_name or model.id, machine, None if traffic is None else f"{traffic}% of the traffic"]
        pairs.append(("model", ", ".join(part for part in parts if part)))
    price = "unknown" if found.usd_per_hour is None else amount(found.usd_per_hour)
    # The `base_url` for the OpenAI client; the shared address refuses requests for a dedicated endpoint.
    try:
        base = own_base(environment, endpoint)
        address = f"{base}/v1beta1/{endpoint.name}" if base else None
    except GoogleApiError as error:  # users who copy the address send a token there
        address = error.message
    per_hour = ("per hour", price if endpoint.deployed_models else None)
    return [*pairs, ("base URL", address), per_hour, ("resource", endpoint.name)]
