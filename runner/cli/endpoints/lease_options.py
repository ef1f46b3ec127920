"""Options for how long a deployment may live."""

from __future__ import annotations

from typing import Any

import click

from runner.cli.options import Command, Duration


class Lease(Duration):
    """A length of time, or `none` for no end."""

    name = "lease"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds; infinite for `none`."""
        if str(value).strip().lower() == "none":
            return float("inf")
        seconds = super().convert(value, param, ctx)
        if seconds <= 0:
            self.fail("a lease is longer than nothing; `runner endpoints undeploy` ends a deployment", param, ctx)
        return seconds


def seconds_or_none(value: float) -> float | None:
    """Return what the library takes: None for no end."""
    return None if value == float("inf") else value


def lease_options(function: Command) -> Command:
    """Add `lease` and `idle_limit` in seconds, infinite for none."""
    lease = click.option(
        "--lease",
        type=Lease(),
        default="8h",
        show_default=True,
        metavar="TIME",
        help="How long it may live; then `runner leaks --clean`, or the idle guard of infra/, ends it. Or none.",
    )
    idle = click.option(
        "--idle-limit",
        type=Lease(),
        default="2h",
        show_default=True,
        metavar="TIME",
        help="How long it may live without a request. Or none.",
    )
    return lease(idle(function))
