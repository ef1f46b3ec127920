"""Options for how many machines serve a model, of which kind, and who can reach it."""

from __future__ import annotations

from typing import Any

import click

from runner.cli.options import Command, Duration
from runner.errors import ConfigurationError


def resource_options(function: Command) -> Command:
    """Add the options that `resource_choices` reads."""
    decorators = (
        click.option(
            "--min-replicas", type=click.IntRange(1), default=None, metavar="N", help="Machines at least [1]."
        ),
        click.option(
            "--max-replicas", type=click.IntRange(1), default=None, metavar="N", help="Machines at most [the least]."
        ),
        click.option(
            "--autoscale",
            multiple=True,
            metavar="METRIC=TARGET",
            help="Replicas follow cpu=60 or gpu=60, in per cent, or requests=N a minute.",
        ),
        click.option("--scale-to-zero", type=Duration(), metavar="TIME", help="No machine after so long unasked."),
        click.option("--spot", is_flag=True, help="Cheaper machines that may be taken away at any time."),
        click.option(
            "--reservation",
            metavar="any|none|NAME",
            help="Reserved machines: any, or projects/P/zones/Z/reservations/R.",
        ),
        click.option("--shared", "access", flag_value="shared", help="A new endpoint on Google's shared host."),
        click.option("--dedicated", "access", flag_value="dedicated", help="A new endpoint with a host of its own."),
        click.option(
            "--private",
            "private_to",
            multiple=True,
            metavar="PROJECT",
            help="A new endpoint that only PROJECT can connect to (Private Service Connect).",
        ),
    )
    for decorator in reversed(decorators):
        function = decorator(function)
    return function


def resource_choices(choices: dict[str, Any]) -> dict[str, Any]:
    """Take these options out of `choices` and return the arguments of `plan_deployment`. Raises ConfigurationError."""
    from runner.serving.resources import Reach, Resources

    to_zero = choices.pop("scale_to_zero")
    least, most = choices.pop("min_replicas"), choices.pop("max_replicas")
    access, private = choices.pop("access"), choices.pop("private_to")
    if access and private:
        problem = f"an endpoint is either --{access} or --private"
        raise ConfigurationError(problem, problems=[problem])
    default = 1 if to_zero is None else 0
    resources = Resources(
        min_replicas=default if least is None else least,
        max_replicas=max(1, least or 1) if most is None else most,
        autoscale=tuple(_metric(text) for text in choices.pop("autoscale")),
        spot=choices.pop("spot"),
        reservation=choices.pop("reservation"),
        scale_to_zero=to_zero,
    )
    reach = Reach(access="private" if private else access or "default", projects=tuple(private))
    return {"resources": resources, "reach": reach}


def _metric(text: str) -> tuple[str, int]:
    name, _, target = text.partition("=")
    if not (target.isascii() and target.isdecimal()):
        problem = f"{text!r} is no metric with a target: write for example gpu=60"
        raise ConfigurationError(problem, problems=[problem])
    return name, int(target)
