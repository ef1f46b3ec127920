"""Complete or undo deployments whose process has ended, and undo failed ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from runner.errors import GoogleApiError, NotFoundError, RunnerError
from runner.gcp import deployed, endpoints, operations
from runner.gcp.endpoints import DeployedModel, Endpoint, bare_name
from runner.gcp.failures import LISTED, data_loss
from runner.gcp.session import Session
from runner.jobs.labels import managed
from runner.serving import journal
from runner.serving.journal import DeploymentRecord, JournalEntry
from runner.serving.shares import with_share, without
from runner.waiting import waiting

SETTLE_SECONDS = 60.0
"""Time after an unanswered request in which its effect can still appear."""

Outcome = Literal["removed", "finished", "pending", "nothing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """The result for a deployment whose process has ended."""

    record: DeploymentRecord
    outcome: Outcome
    reason: str = ""


def abandoned_records(session: Session) -> list[DeploymentRecord]:
    """Return the deployments of this location that started on this machine and whose process has ended.

    Changes nothing.
    """
    with journal.abandoned(session.environment.parent) as entries:
        return [entry.record for entry in entries]


def recover(
    session: Session,
    *,
    timeout: float = 30.0,
    poll: float = 2.0,
    settle: float | None = None,
    progress: Callable[[str], None] | None = None,
) -> list[Recovered]:
    """Complete or undo every deployment of this location whose process has ended.

    Deployments whose model does not serve are removed. Those whose model serves, or that were started without waiting,
    are completed: they get labels, and the models that they replace are undeployed.

    Args:
        session: the project and location.
        timeout: seconds to wait for a running deployment of the service.
        poll: seconds between two polls.
        settle: a deployment that is younger than this and has no resources stays in the journal; None uses
            SETTLE_SECONDS.
        progress: called with a line for each.
    """
    settle = SETTLE_SECONDS if settle is None else settle
    done: list[Recovered] = []
    with journal.abandoned(session.environment.parent) as entries:
        for entry in entries:
            if progress:
                began = "was started without waiting" if entry.record.phase == "handed over" else "was interrupted"
                progress(f"completing the deployment {entry.record.id}, which {began}")
            try:
                outcome = _recover_one(session, entry, timeout, poll, settle)
            except RunnerError as error:
                done.append(Recovered(record=entry.record, outcome="pending", reason=error.message))
                continue
            if outcome != "pending":
                entry.close()
            done.append(Recovered(record=entry.record, outcome=outcome))
    return done


def _recover_one(session: Session, entry: JournalEntry, timeout: float, poll: float, settle: float) -> Outcome:
    record = entry.record
    if record.phase == "begun":
        return "nothing"
    if record.phase == "handed over" and record.operation:
        # Read before the serving models: if a deployment ends in between, its model is seen and stays.
        try:
            if not operations.get(session, record.operation).get("done"):
                return "pending"
        except NotFoundError:
            pass  # deleted by the service, so it has ended
    if record.phase == "deployed" or (record.phase == "handed over" and _serves(session, record)):
        roll_forward(session, record)
        return "finished"
    seen = _find(session, record)
    known = record.phase in {"accepted", "handed over"} and _is_pending(session, record) is not None
    unsent = known or session.now() - record.time > settle
    if not undo(session, record, timeout=timeout, poll=poll, unsent=unsent):
        return "pending"
    return "removed" if any(seen) else "nothing"


def roll_forward(session: Session, record: DeploymentRecord) -> None:
    """Label a serving model, give it its traffic, and undeploy those that it replaces, unless it was removed since."""
    try:
        endpoint = label(session, record)
    except NotFoundError as error:
        if listed(session, [record.endpoint]):
            raise data_loss(error.resource, LISTED, method=error.method) from error
        return
    model = next((item for item in endpoint.deployed_models if item.id == record.deployed_model), None)
    if record.own_endpoint or model is None:
        return
    if record.percent and not endpoint.traffic.get(model.id):
        split = with_share(endpoint.traffic, model.id, record.percent)
        endpoint = deployed.set_traffic(session, record.endpoint, split)
    if not endpoint.traffic.get(model.id):
        return  # it has no traffic before its check, so the replaced models stay
    retire(session, record)


def retire(session: Session, record: DeploymentRecord, progress: Callable[[str], None] | None = None) -> None:
    """Undeploy the models that a deployment replaces, and delete them; missing ones are ignored."""
    for item in record.replaces:
        if progress:
            progress(f"undeploying the earlier {item}")
        take_off(session, record.endpoint, item)
    for model in record.replaced_models:
        try:
            removed(session, partial(endpoints.delete_model, session, model), model, timeout=300)
        except GoogleApiError as error:
            if error.status != "FAILED_PRECONDITION":  # it is deployed elsewhere as well
                raise


def removed(session: Session, ask: Callable[[], str], name: str, *, timeout: float) -> bool:
    """Request a removal and wait for it; return False if the resource did not exist.

    Args:
        session: the project and location.
        ask: sends the request, and returns the operation's name.
        name: full name of the resource.
        timeout: seconds to wait.

    Raises:
        GoogleApiError: the service reports that the resource does not exist, but lists it.
    """
    try:
        operation = ask()
    except NotFoundError as error:
        if listed(session, [name]):
            raise data_loss(name, LISTED, method=error.method) from error
        return False
    operations.wait(session, operation, timeout=timeout)
    return True


def listed(session: Session, names: Sequence[str]) -> list[str]:
    """Return those endpoints, models and deployed models that the service lists, by their full names."""
    every = endpoints.list_endpoints(session)
    there = {bare_name(item.name) for item in every} | {bare_name(item.name) for item in deployed.list_models(session)}
    there |= {f"{bare_name(item.name)}/deployedModels/{one.id}" for item in every for one in item.deployed_models}
    return [name for name in names if bare_name(name) in there]


def take_off(session: Session, endpoint: str, deployed_model: str, timeout: float = 900.0) -> None:
    """Undeploy one model.

    The remaining model with most traffic gets its traffic. Does nothing if it is not deployed.
    """
    now = endpoints.get_endpoint(session, endpoint)
    staying = [item.id for item in now.deployed_models]
    if deployed_model not in staying:
        return
    traffic = without(now.traffic, staying, deployed_model)
    ask = partial(endpoints.undeploy_model, session, endpoint, deployed_model, traffic=traffic)
    removed(session, ask, f"{endpoint}/deployedModels/{deployed_model}", timeout=timeout)


def label(session: Session, record: DeploymentRecord) -> Endpoint:
    """Write a deployment's labels to its model, and to its endpoint if it created that; return the endpoint.

    An endpoint that this tool created earlier, without other models, also gets the labels, because its lease is old.
    """
    endpoint = endpoints.get_endpoint(session, record.endpoint)
    for item in endpoint.deployed_models:
        if item.model and (record.own_endpoint or item.id == record.deployed_model):
            there = endpoints.get_model(session, item.model).get("labels") or {}
            endpoints.set_model_labels(session, item.model.split("@", 1)[0], {**there, **record.labels})
    alone = all(item.id == record.deployed_model for item in endpoint.deployed_models)
    if not record.own_endpoint and not (alone and managed(endpoint.labels)):
        return endpoint
    return endpoints.set_labels(session, endpoint.name, {**endpoint.labels, **record.labels})


def undo(session: Session, record: DeploymentRecord, *, timeout: float, poll: float = 2.0, unsent: bool = True) -> bool:
    """Remove the resources of a deployment, and wait for operations of the service.

    Args:
        session: the project and location.
        record: names all resources that it may have created.
        timeout: seconds.
        poll: seconds between two polls.
        unsent: whether missing resources prove that there are none; otherwise, a request may still take effect.

    Returns:
        Whether nothing is left.
    """
    deadline = time.monotonic() + timeout
    # A new endpoint and its model do not appear at the same time: if there is only one of them, the other may follow.
    missing = {"endpoint", "model"} if record.own_endpoint else {"model"}
    while True:
        endpoint, model = _find(session, record)
        pending = _is_pending(session, record)
        missing -= {*(["endpoint"] if endpoint else []), *(["model"] if model else [])}
        if endpoint is None and not model and not pending:
            return unsent or not missing
        if not pending and _remove(session, record, endpoint):
            continue
        if time.monotonic() > deadline:
            return False
        with waiting(f"the service, which still works on {record.endpoint.rsplit('/', 1)[-1]}"):
            time.sleep(poll)


def _find(session: Session, record: DeploymentRecord) -> tuple[Endpoint | None, bool]:
    """Return the endpoint as far as the deployment changed it, and whether its model is there."""
    endpoint = deployed.endpoint_there(session, record.endpoint)
    if (
        endpoint
        and not record.own_endpoint
        and not any(i.id == record.deployed_model for i in endpoint.deployed_models)
    ):
        endpoint = None
    return endpoint, deployed.model_there(session, record.model) is not None


def _serves(session: Session, record: DeploymentRecord) -> bool:
    endpoint = _find(session, record)[0]
    return endpoint is not None and bool(endpoint.deployed_models)


def _is_pending(session: Session, record: DeploymentRecord) -> bool | None:
    """Return whether the service is still working on the deployment; None if unknown."""
    try:
        if not record.own_endpoint:
            return bool(deployed.unfinished_operations(session, record.endpoint))
        return not operations.get(session, record.operation).get("done") if record.operation else None
    except NotFoundError:
        return None


def _remove(session: Session, record: DeploymentRecord, endpoint: Endpoint | None) -> bool:
    """Undeploy and delete; return False if a deployment is still running."""
    try:
        if endpoint is not None:
            for item in endpoint.deployed_models:
                if record.own_endpoint or item.id == record.deployed_model:
                    _undeploy(session, record, item.id)
            if record.own_endpoint:
                operations.wait(session, endpoints.delete_endpoint(session, record.endpoint), timeout=300)
        operations.wait(session, endpoints.delete_model(session, record.model), timeout=300)
    except NotFoundError:
        return False  # only one of them exists: read again
    except GoogleApiError as error:
        if error.status in {"FAILED_PRECONDITION", "ABORTED"}:
            return False
        raise
    return True


def _undeploy(session: Session, record: DeploymentRecord, deployed_model: str) -> None:
    now = endpoints.get_endpoint(session, record.endpoint)
    staying = [item.id for item in now.deployed_models if item.id != deployed_model]
    before = {key: share for key, share in record.traffic_before.items() if key in staying}
    changed = now.traffic.get(deployed_model, 0) > 0
    if staying and changed and sum(before.values()) == 100:
        split = before
    else:
        split = without(now.traffic, [*staying, deployed_model], deployed_model) if changed else {}
    operation = endpoints.undeploy_model(session, record.endpoint, deployed_model, traffic=split)
    operations.wait(session, operation, timeout=900)


def is_ours(session: Session, endpoint: Endpoint, item: DeployedModel) -> bool:
    """Return whether this tool deployed a model: by the label of the deployment, the endpoint or the model."""
    if managed(item.labels) or managed(endpoint.labels):
        return True
    if not item.model:
        return False
    model = deployed.model_there(session, item.model)
    return model is not None and managed(model.labels)
