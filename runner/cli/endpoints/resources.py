"""Options for the number and type of machines that serve a model, and who can reach it."""

from __future__ import annotations

from typing import Any

import click

from runner.cli.options import together
from runner.cli.values import Count, Duration, Value


class Metric(Value):
    """A metric with a target; converted to a tuple."""

    name = "metric"
    metavar = "METRIC=TARGET"
    form = "METRIC=TARGET, such as gpu=60"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        """Return the name of the metric and its target."""
        if isinstance(value, tuple):
            return value
        name, _, target = str(value).partition("=")
        if not (target.isascii() and target.isdecimal()):
            self.refuse(value, param, ctx)
        return name, int(target)


resource_options = together(
    click.option("--min-replicas", type=Count(1), default=None, help="Minimum number of replicas [default: 1]."),
    click.option(
        "--max-replicas", type=Count(1), default=None, help="Maximum number of replicas [default: the minimum]."
    ),
    click.option(
        "--autoscale",
        type=Metric(),
        multiple=True,
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
        "projects",
        multiple=True,
        metavar="PROJECT",
        help="Create an endpoint that only PROJECT can reach (Private Service Connect); repeatable.",
    ),
)
"""The options that `resource_choices` reads."""


def resource_choices(choices: dict[str, Any]) -> dict[str, Any]:
    """Remove these options from `choices` and return the arguments of `plan_deployment`."""
    from runner.serving.resources import Reach, Resources

    to_zero = choices.pop("scale_to_zero", None)
    least, most = choices.pop("min_replicas", None), choices.pop("max_replicas", None)
    access, private = choices.pop("access", None), choices.pop("projects", ())
    default = 1 if to_zero is None else 0
    resources = Resources(
        min_replicas=default if least is None else least,
        max_replicas=max(1, least or 1) if most is None else most,
        autoscale=choices.pop("autoscale", ()),
        spot=choices.pop("spot", False),
        reservation=choices.pop("reservation", None),
        scale_to_zero=to_zero,
    )
    reach = Reach(access=access or ("private" if private else "default"), projects=tuple(private))
    return {"resources": resources, "reach": reach}
