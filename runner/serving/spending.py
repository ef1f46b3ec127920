"""A limit for the hourly cost of all endpoints together. A model without a known price exceeds every limit."""

from __future__ import annotations

import os

from runner import locks
from runner.environment import state_directory
from runner.errors import ConfigurationError, CostRefusedError, HourlyLimitError
from runner.gcp.endpoints import Endpoint, bare_name
from runner.gcp.session import Session
from runner.prices import DOLLARS, amount, dollars_of, require_dollars
from runner.serving import journal
from runner.serving.journal import DeploymentRecord, JournalEntry
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


def begin_within(session: Session, plan: DeploymentPlan, limit: float | None, record: DeploymentRecord) -> JournalEntry:
    """Check the limit and write the journal, while no other process of this user does so.

    Raises:
        ConfigurationError, HourlyLimitError, LockedError, DiskError: refused; nothing may be sent.
    """
    if limit is None:
        return journal.begin(record)
    directory = state_directory()
    nothing = "nothing was deployed"
    with locks.held(directory / "hourly-limit.lock", directory, nothing=nothing, hint=journal.NOTHING_SENT):
        check_hourly_limit(session, plan, limit)
        return journal.begin(record)


def check_hourly_limit(session: Session, plan: DeploymentPlan, limit: float | None) -> None:
    """Return normally if a plan and all deployed models of the location cost at most `limit` dollars per hour.

    Models of other tools count too, because they are on the same bill, and so do deployments that have begun on this
    machine. A limit of None allows every cost.

    Raises:
        ConfigurationError: the limit is not an amount.
        HourlyLimitError: they cost more, or what another deployment costs is unknown.
        CostRefusedError: the price of the plan is unknown.
    """
    require_dollars(limit, "max_hourly_cost")
    if limit is None:
        return
    hint = "`runner endpoints ls --all` lists prices; change the limit with --max-hourly-cost or RUNNER_MAX_HOURLY_COST"
    if plan.usd_per_hour is None:
        raise CostRefusedError(
            f"no price is published for the machine of {plan.display_name}: no limit can be checked", hint=hint
        )
    for _, problem in journal.damaged():
        message = f"{problem}: what its deployment costs is unknown"
        raise HourlyLimitError(message, hint="run `runner repair` to move the file aside, then the same command again")
    begun = journal.pending(session.environment.parent)  # first, because one that ends meanwhile is in the list
    deployed = list_deployments(session)
    begun = [record for record in begun if not any(_shows(item.endpoint, record) for item in deployed)]
    prices = [(item.endpoint.id, item.usd_per_hour) for item in deployed]
    prices += [(record.endpoint.rsplit("/", 1)[-1], record.usd_per_hour) for record in begun]
    unknown = [endpoint for endpoint, usd in prices if usd is None]
    if unknown:
        raise HourlyLimitError(f"the price of what is deployed on {', '.join(unknown)} is unknown", hint=hint)
    now = sum(usd or 0.0 for _, usd in prices)
    together = now + plan.usd_per_hour
    if together > limit:
        raise HourlyLimitError(
            f"{amount(plan.usd_per_hour)} per hour on top of the {amount(now)} of what is deployed, or is being "
            f"deployed, is {amount(together)}, more than the limit of {amount(limit)}",
            hint=hint,
        )


def _shows(endpoint: Endpoint, record: DeploymentRecord) -> bool:
    """Return whether the model of a deployment is on an endpoint, which is then its price."""
    if bare_name(endpoint.name) != bare_name(record.endpoint):
        return False
    return any(record.own_endpoint or item.id == record.deployed_model for item in endpoint.deployed_models)
