"""Deploy the models of manifests after their jobs have succeeded and their gates are met.

This is not in the library of jobs, which does not know serving. A deployment is claimed in the job's record before it
is requested, and its label contains the job's identity, so that it can be found after an interruption.
"""

from __future__ import annotations

import dataclasses
import uuid
from functools import partial
from typing import TYPE_CHECKING, Any

from runner.cli.options import Invocation
from runner.errors import (
    ConfigurationError,
    DiskError,
    GoogleApiError,
    HourlyLimitError,
    LockedError,
    NotFoundError,
    QuotaExceededError,
    RunnerError,
    UnreachableError,
    WaitTimeoutError,
)
from runner.prices import Terms

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.gcp.endpoints import Endpoint
    from runner.gcp.session import Session
    from runner.gcp.tuning_jobs import TuningJob
    from runner.jobs.manifests.planning import Plan
    from runner.jobs.manifests.records import Entry, Run, StateLedger
    from runner.jobs.manifests.schema import Deploy
    from runner.serving.plan import DeploymentPlan

LEASE_SECONDS = 7200.0
"""Age after which another runner's deployment without an endpoint is taken over; a deployment takes up to an hour."""


def foretell(session: Session, plan: Plan) -> None:
    """Warn of jobs in a plan that would not be deployed, as far as this is known before."""
    for job in plan.billable:
        problem = _refusal(session, job.run.fields["base_model"], job.source.deploy) if job.source.deploy else ""
        if problem:
            job.warnings.append(f"spec.deploy: {problem}: the model would not be deployed")


def _refusal(session: Session, base_model: str, wanted: Deploy) -> str:
    from runner.cli.text import amount
    from runner.gcp.prediction import resolve_endpoint
    from runner.serving.plan import choose_machine, hourly_price

    try:
        machine = choose_machine(base_model, wanted.machine_type, wanted.accelerator_type, wanted.accelerator_count)
        if wanted.endpoint:
            resolve_endpoint(session, wanted.endpoint)
    except (ConfigurationError, NotFoundError) as error:
        return error.message
    if machine is None:
        return ""  # the service recommends one after the training
    price = hourly_price(machine)
    if price is None:
        return f"no price is published for {machine.machine_type}"
    if price > wanted.max_cost_per_hour:
        limit = amount(wanted.max_cost_per_hour)
        return f"{machine.machine_type} costs {amount(price)} per hour, more than maxCostPerHour {limit}"
    return ""


def deploy_finished(
    invocation: Invocation, session: Session, said: dict[str, str] | None = None
) -> list[dict[str, Any]]:
    """Deploy every job that has succeeded, has a deploy section and was not deployed; return the results.

    A deployment that may be possible later, see `_may_pass`, is tried again by the next call.

    Args:
        invocation: the command.
        session: the project and location.
        said: the results by job that earlier calls returned; the same result is not returned again.
    """
    from runner.jobs.manifests.records import StateLedger

    ledger = StateLedger(session)
    snapshot = ledger.load()
    done = []
    for name, entry in sorted(snapshot.entries.items()):
        run = entry.record.run
        before = run.deployment
        held = before is not None and before.phase == "claimed"
        stale = held and (snapshot.now - entry.updated).total_seconds() > LEASE_SECONDS
        if run.deploy is None or run.outcome is None or run.outcome.state != "JOB_STATE_SUCCEEDED":
            continue
        if before is None or stale:
            result = _deploy(invocation, session, ledger, entry)
            text = f"{result['what']} ({result.get('message') or result.get('endpoint')})" if result else ""
            key = f"{name}: deployment"
            if result and (said is None or said.get(key) != text):
                done.append({"name": name, **result})
                invocation.output.note(f"{name}: {text}")
                if said is not None:
                    said[key] = text
    return done


def _deploy(invocation: Invocation, session: Session, ledger: StateLedger, entry: Entry) -> dict[str, Any]:
    from runner.cli.manifests.evaluation_gate import answers_check, check_losses
    from runner.gcp import tuning_jobs
    from runner.jobs.manifests.records import Deployment
    from runner.serving import deploying
    from runner.serving.spending import hourly_limit

    limit = hourly_limit()  # first, because an error on this machine must not count as a permanent refusal of the job
    record, run = entry.record, entry.record.run
    claim = Deployment(phase="claimed", owner=uuid.uuid4().hex)
    claimed = ledger.write(record.changed(deployment=claim), entry.generation)
    if claimed is None:
        return {}  # another runner is working on it
    found = _served(session, record.name, run)
    existing, message = found[0].id if found else "", ""
    approved: list[bool] = []
    if not existing:
        try:
            job = tuning_jobs.get(session, run.job)
            check_losses(session, run, job)
            check = answers_check(invocation, session, run, job)
            plan, terms = _planned(session, record.name, run, job)
            tell = invocation.output.note
            agreed = partial(approved.append, True)
            made = deploying.deploy(
                session, plan, terms=terms, max_hourly_cost=limit, check=check, tell=tell, agreed=agreed
            )
            existing = made.id
        except WaitTimeoutError as error:
            message = error.message
        except RunnerError as error:
            _take_off(invocation, session, record.name, run)
            again = _may_pass(error, started=bool(approved))
            refused = None if again else Deployment(phase="refused", message=error.message[:500])
            ledger.write(claimed.record.changed(deployment=refused), claimed.generation)
            later = "; the next `runner apply`, or `runner queue run`, tries again" if again else ""
            return {"what": "not deployed", "message": f"{error.message}{later}"}
    price = run.deploy.get("max_cost_per_hour") if run.deploy else None
    served = Deployment(phase="deployed", endpoint=existing, usd_per_hour=price, message=message)
    ledger.write(claimed.record.changed(deployment=served), claimed.generation)
    return {"what": "deployed", "endpoint": existing, **({"message": message} if message else {})}


def _may_pass(error: RunnerError, *, started: bool) -> bool:
    """Return whether a deployment that failed may be possible later, without any cost of the attempts until then."""
    if isinstance(error, HourlyLimitError | LockedError | DiskError):
        return True
    fault = isinstance(error, GoogleApiError) and error.http >= 500
    return not started and (fault or isinstance(error, QuotaExceededError | UnreachableError))


def _served(session: Session, name: str, run: Run) -> tuple[Endpoint, str | None] | None:
    """Return the endpoint that serves this run, and the deployed model; None for an endpoint created only for it."""
    from runner.jobs.labels import IDENTITY_LABEL, MANIFEST_LABEL
    from runner.serving.listing import list_deployments

    def is_it(labels: Mapping[str, str]) -> bool:
        return (labels.get(MANIFEST_LABEL), labels.get(IDENTITY_LABEL)) == (name, run.identity)

    for item in list_deployments(session, only_ours=True):
        if item.billed and is_it(item.endpoint.labels):
            return item.endpoint, None
        for model in item.endpoint.deployed_models:
            if item.billed and is_it(model.labels):
                return item.endpoint, model.id
    return None


def _take_off(invocation: Invocation, session: Session, name: str, run: Run) -> None:
    """Remove a model that the gate refused, because it is billed."""
    from runner.serving.deployment import undeploy

    try:
        found = _served(session, name, run)
        if found is not None:
            endpoint, only = found
            undeploy(session, endpoint, delete=only is None, only=only, progress=invocation.output.note)
    except RunnerError as error:
        invocation.output.note(f"{name}: {error.message}; `runner leaks --clean` removes what is left")


def _planned(session: Session, name: str, run: Run, job: TuningJob) -> tuple[DeploymentPlan, Terms]:
    from runner.jobs.labels import IDENTITY_LABEL, MANIFEST_LABEL
    from runner.serving.plan import plan_deployment

    wanted = dict(run.deploy or {})
    terms = Terms(limit=float(wanted.pop("max_cost_per_hour")), limit_name="maxCostPerHour")
    plan = plan_deployment(session, job.name, display_name=name, **wanted)
    labels = {**plan.labels, MANIFEST_LABEL: name, IDENTITY_LABEL: run.identity}
    return dataclasses.replace(plan, labels=labels), terms
