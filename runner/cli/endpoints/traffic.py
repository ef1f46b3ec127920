"""`runner endpoints traffic|canary|promote|rollback`: several models on one endpoint."""

from __future__ import annotations

from typing import Any

import click

from runner import times
from runner.cli import commands
from runner.cli.cost_gate import require_confirmed
from runner.cli.options import Invocation, endpoint_argument
from runner.cli.text import ago
from runner.cli.values import Count, Duration, Quantity
from runner.errors import require_sound


@commands.command(
    name="traffic",
    changes=True,
    examples=(
        "runner endpoints traffic production",
        "runner endpoints traffic production newest=10",
        "runner endpoints traffic production 1111=90 2222=10",
    ),
)
@endpoint_argument
@click.argument("shares", nargs=-1, metavar="[MODEL=PERCENT]...")
@click.pass_obj
def traffic(invocation: Invocation, endpoint: str, shares: tuple[str, ...]) -> None:
    """Show or set the traffic split of ENDPOINT.

    MODEL is a deployed model's ID, its name, or `newest`. With one MODEL, the other models share the rest in their
    present proportions.
    """
    from runner.serving.prediction import resolve_endpoint
    from runner.serving.traffic import set_shares

    wanted = _shares(shares)
    with invocation.session() as session:
        found = resolve_endpoint(session, endpoint)
        if wanted:
            found = set_shares(session, found, wanted)
    _show(invocation, found)


@commands.command(
    name="canary",
    changes=True,
    examples=(
        "runner endpoints canary production --percent 10",
        "runner endpoints canary production --percent 10 --watch --for 1h",
        "runner endpoints canary production --model 2222 --watch --max-error-rate 0.01 --max-latency-ratio 1.5",
    ),
)
@endpoint_argument
@click.option("--model", default="newest", show_default=True, metavar="ID", help="Deployed model to watch.")
@click.option("--percent", type=Count(1, 99), help="Share of the traffic, in percent [default: unchanged].")
@click.option(
    "--watch", is_flag=True, help="Watch errors and latency; take the traffic away if they exceed the limits."
)
@click.option("--for", "length", type=Duration(), default="30m", show_default=True, help="How long.")
@click.option("--every", type=Duration(), default="15s", show_default=True, help="Polling interval.")
@click.option(
    "--max-error-rate",
    type=Quantity(0, 1),
    default=0.05,
    show_default=True,
    help="Error rate (429 and 5xx) allowed above the other models' rate.",
)
@click.option(
    "--max-latency-ratio",
    type=Quantity(1),
    default=2.0,
    show_default=True,
    help="Mean latency allowed, as a multiple of the other models'.",
)
@click.pass_obj
def canary(
    invocation: Invocation,
    /,
    endpoint: str,
    model: str,
    percent: int | None,
    watch: bool,
    length: float,
    every: float,
    max_error_rate: float,
    max_latency_ratio: float,
) -> None:
    """Send a small share of ENDPOINT's traffic to one model and watch its errors and latency.

    Metrics come from Cloud Monitoring with a delay of some minutes. The exit code is 12 if the model failed and lost
    its traffic.
    """
    from runner.serving import traffic as serving
    from runner.serving.prediction import resolve_endpoint

    output = invocation.output
    with invocation.session() as session:
        found = resolve_endpoint(session, endpoint)
        chosen = serving.find_model(found, model)
        if percent is not None:
            found = serving.set_shares(session, found, {chosen.id: percent})
        if not watch:
            _show(invocation, found)
            return
        limits = serving.CanaryLimits(error_rate=max_error_rate, latency_ratio=max_latency_ratio)
        invocation.interrupted = f"the traffic split stays; to undo it, run `runner endpoints rollback {found.id}`"
        last = ""

        def report(verdict: serving.Verdict) -> None:
            nonlocal last
            line = f"{chosen.display_name or chosen.id}: {verdict.state}, {verdict.reason}"
            if output.is_json:
                output.document({"event": "look", **verdict.to_json()}, lines=True)
            elif line != last:
                output.note(line)
            last = line

        verdict = serving.watch_canary(session, found, chosen, limits, duration=length, poll=every, report=report)
    if output.is_json:
        output.document({"event": "end", **verdict.to_json()}, lines=True)
    else:
        output.result({}, f"{chosen.id} {verdict.state}: {verdict.reason}", name=chosen.id)
    output.note(f"next: `runner endpoints promote {found.id} --model {chosen.id}`")


@commands.command(
    name="promote",
    changes=True,
    examples=("runner endpoints promote production", "runner endpoints promote production --model 2222 --keep"),
)
@endpoint_argument
@click.option("--model", default="newest", show_default=True, metavar="ID", help="Deployed model.")
@click.option("--keep", is_flag=True, help="Keep the other models deployed and billed, so that you can roll back.")
@click.pass_obj
def promote(invocation: Invocation, endpoint: str, model: str, keep: bool) -> None:
    """Send all of ENDPOINT's traffic to one model and undeploy this tool's other models."""
    from runner.serving import traffic as serving
    from runner.serving.prediction import resolve_endpoint

    with invocation.session() as session:
        found = resolve_endpoint(session, endpoint)
        chosen = serving.find_model(found, model)
        others = len(found.deployed_models) - 1
        if others and not keep:
            question = f"Send all traffic to {chosen.id} and undeploy the other {others}?"
            hint = "confirm with --yes, or keep the models with --keep"
            require_confirmed(invocation, question, "undeploying models", hint=hint)
        found = serving.promote(session, found, chosen.id, keep=keep, progress=invocation.output.note)
    _show(invocation, found)


@commands.command(
    name="rollback",
    changes=True,
    examples=("runner endpoints rollback production", "runner endpoints rollback production --model 2222 --remove"),
)
@endpoint_argument
@click.option(
    "--model", default="newest", show_default=True, metavar="ID", help="Deployed model that loses its traffic."
)
@click.option("--remove", is_flag=True, help="Also undeploy the model, which ends its billing.")
@click.pass_obj
def rollback(invocation: Invocation, endpoint: str, model: str, remove: bool) -> None:
    """Move the traffic of ENDPOINT's newest model to the other models, immediately and without confirmation."""
    from runner.serving import traffic as serving
    from runner.serving.prediction import resolve_endpoint

    with invocation.session() as session:
        found = resolve_endpoint(session, endpoint)
        found = serving.rollback(session, found, model, remove=remove, progress=invocation.output.note)
    _show(invocation, found)


def _shares(given: tuple[str, ...]) -> dict[str, int]:
    shares: dict[str, int] = {}
    problems = []
    for text in given:
        name, equals, number = text.rpartition("=")
        number = number.removesuffix("%")
        if not equals or not name or not (number.isascii() and number.isdecimal()) or int(number) > 100:
            problems.append(f"{text!r} is not a share: write MODEL=PERCENT, for example newest=10")
        elif name in shares:
            problems.append(f"{name} is given twice")
        else:
            shares[name] = int(number)
    require_sound(problems)
    return shares


def _show(invocation: Invocation, endpoint: Any) -> None:
    rows = [
        [item.id, item.display_name, endpoint.traffic.get(item.id, 0), ago(times.read(item.create_time))]
        for item in endpoint.deployed_models
    ]
    body = {"endpoint": endpoint.name, "traffic": {row[0]: row[2] for row in rows}}
    invocation.output.table(
        ["model", "name", "%", "deployed"],
        rows,
        body=body,
        names=[row[0] for row in rows],
        numbers=(2,),
        ids=(0,),
        droppable=("deployed", "name"),
        empty="no model is deployed",
    )
