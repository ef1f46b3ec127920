"""The jobs of a plan that exceed a limit. An unknown price exceeds every limit."""

from __future__ import annotations

from runner.jobs.manifests.decisions import PlannedJob
from runner.jobs.manifests.planning import Plan
from runner.prices import amount


def refusals(plan: Plan, *, accept_unknown_cost: bool = False) -> list[str]:
    """Return the violations of the limits in a plan's manifests; [] if there are none.

    Args:
        plan: the plan, with prices.
        accept_unknown_cost: accept jobs without a published price.
    """
    found = []
    for job in plan.billable:
        worst, limit = job.worst, job.source.max_cost
        if worst is None:
            if not accept_unknown_cost:
                found.append(f"{job.name}: no price is published for {job.run.fields['base_model']}")
        elif limit is not None and worst > limit:
            repeated = ", every repetition included" if worst != job.price.high else ""
            found.append(f"{job.name}: may cost {amount(worst)}{repeated}, more than its maxCost {amount(limit)}")
    for name, jobs in _sweeps(plan).items():
        limit = jobs[0].source.sweep_max_cost or 0.0
        prices = [job.worst if job.bills else job.price.high for job in jobs]
        if not any(job.bills for job in jobs):
            continue
        total = sum(price or 0.0 for price in prices)
        if total > limit:
            found.append(
                f"{name}: its {len(jobs)} jobs may cost {amount(total)} together, more than the sweep's {amount(limit)}"
            )
    return found


def without_limit(plan: Plan) -> list[PlannedJob]:
    """Return the jobs whose price no manifest limits."""
    return [
        job
        for job in plan.billable
        if job.source.max_cost is None and job.source.sweep_max_cost is None and job.price.high is not None
    ]


def _sweeps(plan: Plan) -> dict[str, list[PlannedJob]]:
    found: dict[str, list[PlannedJob]] = {}
    for job in plan.jobs:
        if job.source.sweep is not None:
            found.setdefault(job.source.sweep, []).append(job)
    return found
