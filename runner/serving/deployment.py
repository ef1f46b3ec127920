"""Deploy tuned weights to an endpoint, and undeploy them.

A deployed model costs money by the hour until it is undeployed, even without requests. Therefore, a plan has a price
before anything starts, the journal names every resource before it is requested, a failed deployment is undone, and only
resources with this tool's label are ever undeployed.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from functools import partial
from typing import Any

from runner.errors import ConfigurationError, NotFoundError, Problem, RunnerError, WaitTimeoutError
from runner.gcp import endpoints, operations
from runner.gcp.endpoints import DeployedModel, Endpoint
from runner.gcp.session import Session
from runner.prices import amount
from runner.serving import journal
from runner.serving.journal import DeploymentRecord, JournalEntry
from runner.serving.labels import lease_labels, made_here, new_id
from runner.serving.listing import describe
from runner.serving.plan import DeploymentPlan
from runner.serving.recovery import is_ours, take_off
from runner.serving.recovery import removed as gone
from runner.serving.saga import Check, Saga
from runner.waiting import silent

DEPLOY_TIMEOUT_SECONDS = 3600.0
"""Deployments take 15 to 30 minutes on the service."""
LOOKUP_SECONDS = 10.0
"""How long to look for the endpoint after a lost response."""
UNDO_SECONDS = 120.0
"""How long a failed deployment waits for its own removal; the next command removes what is left."""


def deploy(
    session: Session,
    plan: DeploymentPlan,
    *,
    wait: bool = True,
    timeout: float = DEPLOY_TIMEOUT_SECONDS,
    poll: float = operations.POLL_SECONDS,
    progress: Callable[[str], None] | None = None,
    check: Check | None = None,
    begin: Callable[[DeploymentRecord], JournalEntry] = journal.begin,
) -> Endpoint:
    """Deploy and return the endpoint.

    Args:
        session: the project and location.
        plan: the plan.
        wait: wait until the model answers; otherwise return when the service has accepted the request.
        timeout: seconds.
        poll: maximum pause between two polls, in seconds.
        progress: called with a line for each step.
        check: checks the new model while it has no traffic; requires `wait`.
        begin: writes the journal; can refuse by raising a RunnerError, before anything is sent.

    Raises:
        GoogleApiError: refused or failed; the created resources are removed again.
        WaitTimeoutError: not ready yet; the deployment continues and is billed when it is ready.
        ConfigurationError, DiskError: the journal cannot be written; nothing was sent, or the created resources are
        removed.
        RunnerError: `check` raised it; the model is deployed without traffic.
    """
    if check and not wait:
        raise ValueError("a check needs to wait")
    now = session.now()
    labels = {**plan.labels, **lease_labels(plan.lease_seconds, plan.idle_seconds, now=now)}
    record = _record(session, plan, labels, now, checked=check is not None)
    entry = begin(record)
    tell = progress or silent
    saga = Saga(session, plan, entry, timeout, poll, tell, lookup=LOOKUP_SECONDS, undo_within=UNDO_SECONDS)
    try:
        operation = saga.send()
        if not wait:
            entry.mark("handed over", operation)
            return _seen(session, record, plan)
        saga.wait(operation)
    except WaitTimeoutError as timed_out:
        shown = f"`runner endpoints show {record.endpoint.rsplit('/', 1)[-1]}`"
        timed_out.hint = f"{shown} shows whether the model is there; to deploy again would create another one"
        try:
            entry.mark("handed over")
        except RunnerError as error:
            # The next command would consider it abandoned.
            saga.undo(error)
            raise
        raise
    except RunnerError as error:
        saga.undo(error)
        raise
    else:
        return saga.finish(check)
    finally:
        entry.release()


def undeploy(
    session: Session,
    endpoint: str | Endpoint,
    *,
    delete: bool = False,
    only: str | None = None,
    timeout: float = 900.0,
    progress: Callable[[str], None] | None = None,
) -> list[str]:
    """Undeploy this tool's models from an endpoint, which ends their billing, and delete them.

    Args:
        session: the project and location.
        endpoint: ID, full name or endpoint.
        delete: also delete the endpoint if this tool created it.
        only: ID of the only deployed model to undeploy; None selects all models of this tool.
        timeout: seconds for each step.
        progress: called with a line for each step.

    Returns:
        The full names of the removed resources.

    Raises:
        NotFoundError: the endpoint does not exist.
        ConfigurationError: this tool deployed nothing to it, or did not create the endpoint that `delete` would delete.
    """
    tell = progress or silent
    found = endpoint if isinstance(endpoint, Endpoint) else endpoints.get_endpoint(session, endpoint)
    own = removable(session, found, delete=delete, only=only)
    removed: list[str] = []
    for item in own:
        tell(f"undeploying {item.display_name or item.id}")
        take_off(session, found.name, item.id, timeout)
        removed.append(f"{found.name}/deployedModels/{item.id}")
    if delete:
        tell(f"deleting endpoint {found.id}")
        gone(session, partial(endpoints.delete_endpoint, session, found.name), found.name, timeout=timeout)
        removed.append(found.name)
    for model in dict.fromkeys(item.model.split("@", 1)[0] for item in own if item.model):
        tell(f"deleting model {model.rsplit('/', 1)[-1]}")
        if gone(session, partial(endpoints.delete_model, session, model), model, timeout=timeout):
            removed.append(model)
    return removed


def removable(
    session: Session, found: Endpoint, *, delete: bool = False, only: str | None = None
) -> list[DeployedModel]:
    """Return the models that `undeploy` would undeploy from an endpoint, for a confirmation. Changes nothing.

    Raises:
        ConfigurationError: `undeploy` would refuse; the message says what continues to cost money.
    """
    own = [item for item in found.deployed_models if only in (None, item.id) and is_ours(session, found, item)]
    ours = made_here(found)
    others = len(found.deployed_models) - len(own)
    if delete and (not ours or others):
        reason = (
            f"endpoint {found.id} holds {others} other model{'s' if others != 1 else ''}"
            if ours
            else f"this tool did not create endpoint {found.id}"
        )
        price = describe(found).usd_per_hour if own else 0.0
        still = (
            "" if not own else f"; its model is still billed ({amount(price)}/h)" if price else "; it is still billed"
        )
        message = f"nothing was changed: {reason}, so the endpoint is not deleted{still}"
        hint = f"`runner endpoints undeploy {found.id}` ends the billing and keeps the endpoint" if own else None
        raise ConfigurationError(Problem(message, "delete"), hint=hint)
    if (found.deployed_models or only) and not own:
        what = f"model {only}" if only else "nothing"
        raise ConfigurationError(
            f"{what} on endpoint {found.id} was deployed by this tool"
            if not only
            else (f"endpoint {found.id} has no model {only} of this tool"),
            hint="use Google's console or gcloud to undeploy it",
        )
    return own


def _record(
    session: Session, plan: DeploymentPlan, labels: dict[str, str], now: float, *, checked: bool
) -> DeploymentRecord:
    """Return what the deployment will create.

    All IDs are chosen here, so that resources can be found after lost responses.
    """
    own = new_id()
    parent = session.environment.parent
    before = endpoints.get_endpoint(session, plan.endpoint) if plan.endpoint else None
    replaced = [
        item
        for item in (before.deployed_models if before and plan.percent == 100 else ())
        if before and is_ours(session, before, item)
    ]
    return DeploymentRecord(
        id=own,
        parent=parent,
        endpoint=before.name if before else endpoints.full_name(session, own),
        own_endpoint=before is None,
        model=f"{parent}/models/{own}",
        # The service allows up to ten digits.
        deployed_model=str(10**9 + secrets.randbelow(9 * 10**9)) if before else "",
        traffic_before=dict(before.traffic) if before else {},
        percent=0 if checked else plan.percent,
        replaces=[item.id for item in replaced],
        replaced_models=sorted({item.model.split("@", 1)[0] for item in replaced if item.model}),
        labels=labels,
        usd_per_hour=plan.usd_per_hour,
        time=now,
    )


def _seen(session: Session, record: DeploymentRecord, plan: DeploymentPlan) -> Endpoint:
    """Return an endpoint that the service may not list yet."""
    try:
        return endpoints.get_endpoint(session, record.endpoint)
    except NotFoundError:
        name: Any = record.endpoint
        return Endpoint(name=name, id=record.id, display_name=plan.display_name, labels=dict(record.labels))
