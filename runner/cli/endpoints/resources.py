"""Options for the number and type of machines that serve a model, and who can reach it."""

from __future__ import annotations

from typing import Any

import click

from runner.cli.options import Count, Duration, together
from runner.errors import ConfigurationError

resource_options = together(
    click.option("--min-replicas", type=Count(1), default=None, help="Minimum number of replicas [default: 1]."),
    click.option(
        "--max-replicas", type=Count(1), default=None, help="Maximum number of replicas [default: the minimum]."
    ),
    click.option(
        "--autoscale",
        multiple=True,
        metavar="METRIC=TARGET",
        help="Autoscaling target: cpu=60 or gpu=60 (percent), or requests=N (per minute).",
    ),
    click.option("--scale-to-zero", type=Duration(), help="Scale to zero replicas after this time without a request."),
    click.option("--spot", is_flag=True, help="Use Spot VMs, which are cheaper and can be preempted at any time."),
    click.option(
        "--reservation",
        metavar="any|none|NAME",
        help="Reservation to use: any, or projects/P/zones/Z/reservations/R.",
    ),
    click.option("--shared", "access", flag_value="shared", help="Create the endpoint on Google's shared host."),
    click.option(
        "--dedicated", "access", flag_value="dedicated", help="Create the endpoint with a dedicated host name."
    ),
    click.option(
        "--private",
        "private_to",
        multiple=True,
        metavar="PROJECT",
        help="Create an endpoint that only PROJECT can reach (Private Service Connect); repeatable.",
    ),
)
"""The options that `resource_choices` reads."""


def resource_choices(choices: dict[str, Any]) -> dict[str, Any]:
    """Remove these options from `choices` and return the arguments of `plan_deployment`. Raises ConfigurationError."""
    from runner.serving.resources import Reach, Resources

    to_zero = choices.pop("scale_to_zero")
    least, most = choices.pop("min_replicas"), choices.pop("max_replicas")
    access, private = choices.pop("access"), choices.pop("private_to")
    if access and private:
        raise ConfigurationError(f"--{access} and --private exclude each other")
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
        raise ConfigurationError(f"{text!r} is not a metric with a target, such as gpu=60")
    return name, int(target)
