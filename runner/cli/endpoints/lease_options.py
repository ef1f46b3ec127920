"""Options for how long a deployment may live."""

from __future__ import annotations

from typing import Any

import click

from runner.cli.options import Duration, together


class Lease(Duration):
    """A length of time, or `none` for no end."""

    name = "lease"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds; infinite for `none`."""
        if str(value).strip().lower() == "none":
            return float("inf")
        seconds = super().convert(value, param, ctx)
        if seconds <= 0:
            self.fail("a lease must be longer than zero; end a deployment with `runner endpoints undeploy`", param, ctx)
        return seconds


def seconds_or_none(value: float) -> float | None:
    """Return what the library takes: None for no end."""
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
"""`lease` and `idle_limit` in seconds, infinite for none."""
