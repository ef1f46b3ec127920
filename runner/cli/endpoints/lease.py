"""`runner endpoints extend`: let a deployment live longer."""

from __future__ import annotations

import click

from runner.cli import commands
from runner.cli.endpoints.lease_options import Lease, seconds_or_none
from runner.cli.options import Invocation, endpoint_argument


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
    body = {"endpoint": found.name, **given.to_json()}
    until = body["leaseUntil"] or "without end"
    idle = "no limit" if given.idle is None else f"{given.idle / 3600:g} h"
    invocation.output.result(
        body, [("endpoint", found.id), ("lease until", until), ("idle limit", idle)], name=found.id
    )
    invocation.output.note(leases.ending(environment, given, found.id, now=now))
