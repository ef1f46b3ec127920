"""A limit for the hourly cost of all endpoints together. A model without a known price exceeds every limit."""

from __future__ import annotations

import os

from runner.errors import ConfigurationError, CostRefusedError
from runner.gcp.session import Session
from runner.prices import DOLLARS, amount, dollars_of, require_dollars
from runner.serving.listing import list_deployments
from runner.serving.plan import DeploymentPlan

VARIABLE = "RUNNER_MAX_HOURLY_COST"


def hourly_limit() -> float | None:
    """Return the limit in RUNNER_MAX_HOURLY_COST; None if it is not set. Raises ConfigurationError."""
    text = os.environ.get(VARIABLE)
    if not text:
        return None
    try:
        return dollars_of(text)
    except ValueError as error:
        raise ConfigurationError(f"{VARIABLE} takes {DOLLARS}, not {text[:60]!r}") from error


def check_hourly_limit(session: Session, plan: DeploymentPlan, limit: float | None) -> None:
    """Return normally if a plan and all deployed models of the location cost at most `limit` dollars per hour.

    Models of other tools count too, because they are on the same bill. None is no limit.

    Raises:
        ConfigurationError: the limit is not an amount.
        CostRefusedError: they cost more, or a price is unknown.
    """
    require_dollars(limit, "max_hourly_cost")
    if limit is None:
        return
    hint = "`runner endpoints ls --all` lists prices; change the limit with --max-hourly-cost or RUNNER_MAX_HOURLY_COST"
    if plan.usd_per_hour is None:
        raise CostRefusedError(
            f"no price is published for the machine of {plan.display_name}: no limit can be checked", hint=hint
        )
    deployed = list_deployments(session)
    unknown = [item.endpoint.id for item in deployed if item.usd_per_hour is None]
    if unknown:
        raise CostRefusedError(f"the price of what is deployed on {', '.join(unknown)} is unknown", hint=hint)
    now = sum(item.usd_per_hour or 0.0 for item in deployed)
    together = now + plan.usd_per_hour
    if together > limit:
        raise CostRefusedError(
            f"{amount(plan.usd_per_hour)} per hour on top of the {amount(now)} of what is already deployed is "
            f"{amount(together)}, more than the limit of {amount(limit)}",
            hint=hint,
        )
