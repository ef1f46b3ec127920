"""Deploy at an approved price: clean up, check the limits, get approval, deploy, check the model, add traffic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from runner.errors import ConfigurationError, Problem
from runner.gcp.endpoints import Endpoint
from runner.gcp.session import Session
from runner.prices import Price, Terms
from runner.serving import deployment
from runner.serving.journal import DeploymentRecord, JournalEntry
from runner.serving.parity import ParityFinding, parity_check
from runner.serving.plan import DeploymentPlan
from runner.serving.questions import read_questions
from runner.serving.recovery import recover
from runner.serving.saga import Check
from runner.serving.spending import begin_within, check_hourly_limit, hourly_limit
from runner.waiting import silent

GOLDEN = 12
"""Number of examples in a check: enough for a result, and fast."""
_OUTCOMES = {
    "removed": "removed what it left on endpoint {}",
    "finished": "completed it: endpoint {} serves",
    "pending": "the service is still working on endpoint {}; run `runner leaks --clean` later",
    "nothing": "it left nothing",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityCheck:
    """The check of a model before it gets traffic."""

    file: Path
    """The dataset that it was trained on."""
    base: str | None = None
    """Its base as a model that Google manages, to compare with."""
    findings: list[ParityFinding] = field(default_factory=list)
    """The check adds its results here, also if it fails."""


def deploy(
    session: Session,
    plan: DeploymentPlan,
    *,
    terms: Terms,
    max_hourly_cost: float | None = None,
    check: ParityCheck | Check | None = None,
    wait: bool = True,
    timeout: float = deployment.DEPLOY_TIMEOUT_SECONDS,
    tell: Callable[[str], None] | None = None,
    agreed: Callable[[], None] | None = None,
) -> Endpoint:
    """Deploy at an approved price and return the endpoint.

    Args:
        session: the project and location.
        plan: the plan.
        terms: determines the approval of the hourly price.
        max_hourly_cost: limit for all endpoints of the location together, in US dollars per hour; None uses
            RUNNER_MAX_HOURLY_COST, if it is set.
        check: the check of the model before it gets traffic.
        wait: wait until the model answers.
        timeout: seconds.
        tell: called with a line for each step.
        agreed: called when the deployment begins: everything is approved, and nothing has been created.

    Raises:
        CostRefusedError: the price was not approved, or all endpoints together cost too much; nothing was changed.
        GateFailedError: the check failed; the model is deployed without traffic.
        GoogleApiError, WaitTimeoutError, ConfigurationError, DiskError: see `deployment.deploy`.
    """
    tell = tell or silent
    settle(session, tell)
    limit = hourly_limit() if max_hourly_cost is None else max_hourly_cost
    check_hourly_limit(session, plan, limit)
    terms.require(price_of(plan))
    gate = _gate(session, plan, check, wait=wait)

    def begin(record: DeploymentRecord) -> JournalEntry:
        entry = begin_within(session, plan, limit, record)
        if agreed is not None:
            agreed()
        return entry

    return deployment.deploy(session, plan, wait=wait, timeout=timeout, progress=tell, check=gate, begin=begin)


def price_of(plan: DeploymentPlan) -> Price:
    """Return the hourly price of a plan."""
    machine = plan.machine.machine_type if plan.machine else "a machine type that the service chooses"
    what = f"serving {plan.display_name} on {machine}"
    return Price(what=what, usd=plan.usd_per_hour, expected=plan.least_usd_per_hour, per="hour")


def settle(session: Session, tell: Callable[[str], None]) -> None:
    """Complete or remove interrupted deployments before anything else is changed."""
    for result in recover(session, progress=tell):
        tell(_OUTCOMES[result.outcome].format(result.record.endpoint.rsplit("/", 1)[-1]))


def _gate(session: Session, plan: DeploymentPlan, check: ParityCheck | Check | None, *, wait: bool) -> Check | None:
    if not isinstance(check, ParityCheck):
        return check
    if not wait:
        raise ConfigurationError(Problem("a check has to wait for the model", "no_wait"))
    questions = read_questions(check.file, limit=GOLDEN)
    return parity_check(session, questions, source=plan.source, base_model=check.base, found=check.findings)
