"""Deploy the models of manifests after their jobs have succeeded and their gates are met.

The library of jobs does not know serving, so this is here. A deployment is claimed in the job's record before it
is requested, and its label contains the job's identity, so that it can be found after an interruption.
"""

from __future__ import annotations

import dataclasses
import re
import uuid
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner import locks
from runner.environment import state_directory
from runner.errors import (
    ConfigurationError,
    CostRefusedError,
    GateFailedError,
    HourlyLimitError,
    NotFoundError,
    RunnerError,
    WaitTimeoutError,
)
from runner.formatting import duration
from runner.prices import Terms

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from runner.gcp.endpoints import Endpoint
    from runner.gcp.session import Session
    from runner.gcp.tuning_jobs import TuningJob
    from runner.jobs.manifests.planning import Plan
    from runner.jobs.manifests.records import Deployment, Entry, Record, Run, StateLedger
    from runner.jobs.manifests.schema import Deploy
    from runner.serving.plan import DeploymentPlan

LEASE_SECONDS = 7200.0
"""Age after which another runner's deployment without an endpoint is taken over; a deployment takes up to an hour."""
_LATER = "; the next `runner apply`, or `runner queue run`, tries again"
_OWNER = re.compile(r"[0-9a-f]{32}")
_PATH = re.compile(r"\S*/\S*")


def foretell(session: Session, plan: Plan) -> None:
    """Warn of jobs in a plan that would not be deployed, as far as this is known before."""
    for job in plan.billable:
        problem = _refusal(session, job.run.fields["base_model"], job.source.deploy) if job.source.deploy else ""
        if problem:
            job.warnings.append(f"spec.deploy: {problem}: the model would not be deployed")


def _refusal(session: Session, base_model: str, wanted: Deploy) -> str:
    from runner.gcp.prediction import resolve_endpoint
    from runner.prices import amount
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
    session: Session,
    *,
    tell: Callable[[str], None],
    result: Callable[[dict[str, Any]], None],
    said: dict[str, str] | None = None,
) -> None:
    """Deploy every job that has succeeded, has a deploy section and was not deployed.

    A deployment that is refused before it begins is tried again by the next call, because the attempt costs nothing; a
    failed gate and a price above the manifest's limit are final.

    Args:
        session: the project and location.
        tell: called with a line for each step and result.
        result: called with the result of each deployment, in its JSON form.
        said: what earlier calls have reported, which is not repeated; is extended.

    Raises:
        ConfigurationError: RUNNER_MAX_HOURLY_COST is not an amount.
        GoogleApiError, UnreachableError: the records cannot be read or written.
    """
    from runner.jobs.manifests.records import StateLedger

    said = {} if said is None else said

    def news(name: str, text: str) -> bool:
        bare = _PATH.sub("", text)  # the names of temporary files differ each time
        known, said[f"{name}: {bare}"] = f"{name}: {bare}" in said, ""
        return not known

    ledger = StateLedger(session)
    snapshot = ledger.load()
    for name, entry in sorted(snapshot.entries.items()):
        run = entry.record.run
        before = run.deployment
        age = (snapshot.now - entry.updated).total_seconds()
        if run.deploy is None or run.outcome is None or run.outcome.state != "JOB_STATE_SUCCEEDED":
            continue
        claimed = before is not None and before.phase == "claimed"
        if before is not None and claimed and age <= LEASE_SECONDS and not _ended(before.owner):
            text = "another command is deploying it; if that one has ended without a result, it is tried again"
            if news(name, text):
                tell(f"{name}: {text} in {duration(LEASE_SECONDS - age)}")
        elif before is None or claimed:

            def step(text: str, name: str = name) -> None:
                if news(name, text):
                    tell(text)

            body = _deploy(session, ledger, entry, step)
            text = f"{body['what']} ({body.get('message') or body.get('endpoint')})" if body else ""
            if body and news(name, text):
                tell(f"{name}: {text}")
                result({"name": name, **body})


def _deploy(session: Session, ledger: StateLedger, entry: Entry, tell: Callable[[str], None]) -> dict[str, Any]:
    from runner.jobs.manifests.records import Deployment
    from runner.serving.journal import NOTHING_SENT
    from runner.serving.spending import hourly_limit

    hourly_limit()  # a mistake in the variable ends the command
    record, owner = entry.record, uuid.uuid4().hex
    path = _claims() / owner
    begun: list[bool] = []
    with ExitStack() as stack:
        try:
            nothing = "nothing was deployed"
            stack.enter_context(locks.held(path, state_directory(), _claims(), nothing=nothing, hint=NOTHING_SENT))
        except RunnerError as error:
            return {"what": "not deployed", "message": f"{error.message}{_LATER}"}
        try:
            claim = Deployment(phase="claimed", owner=owner)
            claimed = ledger.write(record.changed(deployment=claim), entry.generation)
            if claimed is None:
                return {}  # another runner is working on it
            if record.run.deployment is not None and _OWNER.fullmatch(record.run.deployment.owner):
                locks.forget(_claims() / record.run.deployment.owner)
            try:
                ended, result = _attempt(session, record, tell, begun)
            except BaseException:
                if not begun:
                    ledger.write(claimed.record.changed(deployment=None), claimed.generation)
                raise
            ledger.write(claimed.record.changed(deployment=ended), claimed.generation)
            begun.clear()
        finally:
            # Otherwise, the next command on this machine takes the claim over; the journal says what was begun.
            if not begun:
                locks.forget(path)
    return result


def _claims() -> Path:
    """Return the folder with a locked file for each claim of this machine."""
    return state_directory() / "deployment-claims"


def _ended(owner: str) -> bool:
    """Return whether the command that made a claim ran on this machine and has ended."""
    return bool(_OWNER.fullmatch(owner)) and locks.released(_claims() / owner)


def _attempt(
    session: Session, record: Record, tell: Callable[[str], None], begun: list[bool]
) -> tuple[Deployment | None, dict[str, Any]]:
    """Deploy a job; return the result for its record, which is None if it is tried again, and for the user.

    `begun` gets an item before anything is created.
    """
    from runner.gcp import tuning_jobs
    from runner.jobs.manifests.records import Deployment
    from runner.serving import deploying
    from runner.serving.manifests.gate import answers_check, check_losses

    run = record.run
    message = ""
    try:
        found = _served(session, record.name, run)
        endpoint = found[0].id if found else ""
        if not endpoint:
            job = tuning_jobs.get(session, run.job)
            check_losses(session, run, job)
            check = answers_check(session, run, job, tell)
            plan, terms = _planned(session, record.name, run, job)
            agreed = partial(begun.append, True)
            endpoint = deploying.deploy(session, plan, terms=terms, check=check, tell=tell, agreed=agreed).id
    except WaitTimeoutError as error:
        endpoint, message = "", error.message
    except RunnerError as error:
        if begun:
            _take_off(session, record.name, run, tell)
        final = begun or isinstance(error, GateFailedError)
        final = final or (isinstance(error, CostRefusedError) and not isinstance(error, HourlyLimitError))
        refused = Deployment(phase="refused", message=error.message[:500]) if final else None
        return refused, {"what": "not deployed", "message": f"{error.message}{'' if final else _LATER}"}
    price = run.deploy.get("max_cost_per_hour") if run.deploy else None
    served = Deployment(phase="deployed", endpoint=endpoint, usd_per_hour=price, message=message)
    return served, {"what": "deployed", "endpoint": endpoint, **({"message": message} if message else {})}


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


def _take_off(session: Session, name: str, run: Run, tell: Callable[[str], None]) -> None:
    """Remove a model that the gate refused, because it is billed."""
    from runner.serving.deployment import undeploy

    try:
        found = _served(session, name, run)
        if found is not None:
            endpoint, only = found
            undeploy(session, endpoint, delete=only is None, only=only, progress=tell)
    except RunnerError as error:
        tell(f"{name}: {error.message}; `runner leaks --clean` removes what is left")


def _planned(session: Session, name: str, run: Run, job: TuningJob) -> tuple[DeploymentPlan, Terms]:
    from runner.jobs.labels import IDENTITY_LABEL, MANIFEST_LABEL
    from runner.serving.plan import plan_deployment

    wanted = dict(run.deploy or {})
    terms = Terms(limit=float(wanted.pop("max_cost_per_hour")), limit_name="maxCostPerHour")
    plan = plan_deployment(session, job.name, display_name=name, **wanted)
    labels = {**plan.labels, MANIFEST_LABEL: name, IDENTITY_LABEL: run.identity}
    return dataclasses.replace(plan, labels=labels), terms
