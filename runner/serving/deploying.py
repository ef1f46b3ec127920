"""Deploy at an agreed price: tidy up, hold the limits, ask, deploy, look at the model before it has traffic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from runner.errors import ConfigurationError
from runner.gcp.endpoints import Endpoint
from runner.gcp.session import Session
from runner.prices import Price, Terms
from runner.serving import deployment
from runner.serving.parity import ParityFinding, parity_check
from runner.serving.plan import DeploymentPlan
from runner.serving.questions import read_questions
from runner.serving.recovery import recover
from runner.serving.saga import Check
from runner.serving.spending import check_hourly_limit
from runner.waiting import silent

GOLDEN = 12
"""Examples that a check asks: enough to tell, soon done."""
_OUTCOMES = {
    "removed": "removed what it left on endpoint {}",
    "finished": "completed it: endpoint {} serves",
    "pending": "the service is still working on endpoint {}; run `runner leaks --clean` later",
    "nothing": "it left nothing",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityCheck:
    """What a model is asked before it gets traffic."""

    file: Path
    """Dataset that it was trained on."""
    base: str | None = None
    """Its base as Google manages it, to compare with."""
    findings: list[ParityFinding] = field(default_factory=list)
    """Filled by the check, also by one that fails."""


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
    """Deploy at an agreed price and return the endpoint.

    Args:
        session: where.
        plan: what.
        terms: what it may cost per hour.
        max_hourly_cost: limit of all endpoints of the location together, in US dollars per hour.
        check: look at the model before it has traffic.
        wait: wait until the model answers.
        timeout: seconds.
        tell: called with a line for each step.
        agreed: called once the price is agreed to, before anything is made.

    Raises:
        CostRefusedError: the price is not agreed to, or all endpoints together cost too much; nothing was changed.
        GateFailedError: the check failed; the model is deployed without traffic.
        GoogleApiError, WaitTimeoutError, ConfigurationError, DiskError: see `deployment.deploy`.
    """
    tell = tell or silent
    settle(session, tell)
    check_hourly_limit(session, plan, max_hourly_cost)
    terms.require(price_of(plan))
    if agreed is not None:
        agreed()
    gate = _gate(session, plan, check, wait=wait)
    return deployment.deploy(session, plan, wait=wait, timeout=timeout, progress=tell, check=gate)


def price_of(plan: DeploymentPlan) -> Price:
    """Return what a plan costs by the hour."""
    machine = plan.machine.machine_type if plan.machine else "a machine type that the service chooses"
    what = f"serving {plan.display_name} on {machine}"
    return Price(what=what, usd=plan.usd_per_hour, expected=plan.least_usd_per_hour, per="hour")


def settle(session: Session, tell: Callable[[str], None]) -> None:
    """Finish or remove what an interrupted or killed deployment left, before anything else is changed."""
    for result in recover(session, progress=tell):
        tell(_OUTCOMES[result.outcome].format(result.record.endpoint.rsplit("/", 1)[-1]))


def _gate(session: Session, plan: DeploymentPlan, check: ParityCheck | Check | None, *, wait: bool) -> Check | None:
    if not isinstance(check, ParityCheck):
        return check
    if not wait:
        raise ConfigurationError("a check waits for the model: omit --no-wait")
    questions = read_questions(check.file, limit=GOLDEN)
    return parity_check(session, questions, source=plan.source, base_model=check.base, found=check.findings)
