"""`runner endpoints extend`, and the options for the lifetime of a deployment."""

from __future__ import annotations

from typing import Any

import click

from runner.cli import commands
from runner.cli.options import Invocation, endpoint_argument, together
from runner.cli.text import amount, duration
from runner.cli.values import Duration


class Lease(Duration):
    """A duration, or `none` for no end."""

    name = "lease"

    @property
    def form(self) -> str:
        """Return what is accepted."""
        return f"{super().form}, or none for no end"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds; infinite for `none`."""
        if str(value).strip().lower() == "none":
            return float("inf")
        seconds = super().convert(value, param, ctx)
        if seconds <= 0:
            self.refuse(value, param, ctx)
        return seconds


def seconds_or_none(value: float) -> float | None:
    """Return the value for the library: None for no end."""
    return None if value == float("inf") else value


lease_options = together(
    click.option(
        "--lease",
        type=Lease(),
        default="8h",
        show_default=True,
        help="Lease, or none. The idle guard or `runner leaks --clean` removes expired deployments.",
    ),
    click.option(
        "--idle-limit",
        type=Lease(),
        default="2h",
        show_default=True,
        help="Idle limit: how long the deployment may stay without a request, or none.",
    ),
)
"""`lease` and `idle_limit` in seconds, infinite for `none`."""


@commands.command(
    name="extend",
    changes=True,
    examples=(
        "runner endpoints extend my-model",
        "runner endpoints extend 1234567890 --lease 3d --idle-limit 6h",
        "runner endpoints extend production --lease none --idle-limit none",
    ),
)
@endpoint_argument
@click.option("--lease", type=Lease(), default="8h", show_default=True, help="New lease, counted from now, or none.")
@click.option("--idle-limit", type=Lease(), help="New idle limit, or none [default: unchanged].")
@click.pass_obj
def extend(invocation: Invocation, endpoint: str, lease: float, idle_limit: float | None) -> None:
    """Set a new lease for this tool's models on ENDPOINT."""
    from runner.serving import leases
    from runner.serving.plan import hourly_total
    from runner.serving.prediction import resolve_endpoint

    with invocation.session() as session:
        environment = session.environment
        found = resolve_endpoint(session, endpoint)
        given = (
            leases.extend(session, found, seconds_or_none(lease))
            if idle_limit is None
            else leases.extend(session, found, seconds_or_none(lease), seconds_or_none(idle_limit))
        )
        now = session.now()
        price = hourly_total(leases.own_models(session, found))
    body = {"endpoint": found.name, **given.to_json(), "usdPerHour": None if price is None else round(price, 4)}
    then = ""
    if price is not None and given.until is not None:
        then = f", {amount(price * max(0.0, given.until - now) / 3600)} until then"
    pairs = [
        ("endpoint", found.id),
        ("lease until", body["leaseUntil"] or "without end"),
        ("idle limit", "no limit" if given.idle is None else duration(given.idle)),
        ("costs", "not published" if price is None else f"{amount(price)} per hour{then}"),
    ]
    invocation.output.result(body, pairs, name=found.id)
    invocation.output.note(leases.ending(environment, given, found.id, now=now))
