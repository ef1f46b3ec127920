"""Resources that cost money but are no longer used, from the service; removed only if this tool created them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from runner import times
from runner.errors import NotFoundError, RunnerError
from runner.formatting import duration
from runner.gcp import deployed, endpoints, usage
from runner.gcp.deployed import ModelResource
from runner.gcp.endpoints import DeployedModel, Endpoint, bare_name
from runner.gcp.failures import LISTED
from runner.gcp.session import Session
from runner.jobs.labels import managed
from runner.serving import recovery
from runner.serving.deployment import undeploy
from runner.serving.journal import DeploymentRecord
from runner.serving.labels import ID_PREFIX, LEASE_LABEL, made_here
from runner.serving.leak import Kind, Leak
from runner.serving.leases import Lease, lease_of
from runner.serving.plan import hourly_total

GRACE_SECONDS = 2 * 3600.0
"""Seconds for which an endpoint without a model, or a model that is not deployed, may belong to a running deployment.
Seconds for which an endpoint without a model, or a model that is not deployed, may belong to a running deployment."""
_LONGEST_IDLE = 7 * 86400.0
"""Period in which requests are counted."""


def find_leaks(session: Session, *, now: float | None = None, grace: float = GRACE_SECONDS) -> list[Leak]:
    """Return the unused resources that this tool created, most expensive first. Changes nothing.

    Args:
        session: the project and location.
        now: seconds since 1970; None uses the service's clock.
        grace: minimum age in seconds of endpoints without models, and models without endpoints.

    Raises:
        GoogleApiError: the service refuses, or its clock shows a time before the creation of a listed resource.
    """
    records = recovery.abandoned_records(session)
    every = endpoints.list_endpoints(session)
    models = deployed.list_models(session)
    moment = session.now() if now is None else now
    labels = {bare_name(model.name): model.labels for model in models}
    names = {bare_name(model.name): model.name for model in models}
    asked = usage.last_requests(session, moment - _LONGEST_IDLE)
    unfinished = {
        bare_name(name) for record in records for name in (record.endpoint, record.model) if _made(record, name)
    }
    leaks = [leak for record in records if (leak := _of_record(record, every, names, moment)) is not None]
    for endpoint in every:
        if bare_name(endpoint.name) in unfinished:
            continue
        for item in endpoint.deployed_models:
            found = _of_deployed(endpoint, item, labels.get(bare_name(item.model), {}), asked, moment)
            leaks += [found] if found else []
        empty = _of_empty(endpoint, moment, grace)
        leaks += [empty] if empty else []
    used = {bare_name(item.model) for endpoint in every for item in endpoint.deployed_models}
    leaks += [
        _of_model(model, moment)
        for model in models
        if bare_name(model.name) not in used | unfinished
        and _deployable(model)
        and _age(model.create_time, moment) >= grace
    ]
    return sorted(leaks, key=lambda leak: -(float("inf") if leak.usd_per_hour is None else leak.usd_per_hour))


def clean(
    session: Session, leaks: Sequence[Leak], *, progress: Callable[[str], None] | None = None
) -> tuple[list[str], list[str]]:
    """Remove leaks; return the names of the removed resources, and the other ones with the reasons.

    Each leak is checked again before: resources that were extended or used since are kept. A resource that the service
    reports as missing counts as removed only when no list contains it any more.
    """
    removed: list[str] = []
    failed: list[str] = []
    absent: list[str] = []
    shown = {leak.record.id for leak in leaks if leak.record}
    for result in recovery.recover(session, progress=progress):
        if result.outcome == "removed":
            removed += [result.record.endpoint] if result.record.own_endpoint else []
            removed.append(result.record.model)
        elif result.outcome == "pending" and result.record.id in shown:
            failed.append(f"{result.record.endpoint}: {result.reason or 'the service still works on it'}")
    for leak in leaks:
        if leak.record is not None:
            continue
        try:
            removed += _remove(session, leak, progress)
        except NotFoundError:
            absent.append(leak.resource)
        except RunnerError as error:
            failed.append(f"{leak.resource}: {error.message}")
    return removed, failed + (_still_listed(session, absent) if absent else [])


def _still_listed(session: Session, absent: Sequence[str]) -> list[str]:
    """Return the resources that the service lists but does not find by name."""
    try:
        return [f"{name}: {LISTED}" for name in recovery.listed(session, absent)]
    except RunnerError as error:
        return [f"{name}: {error.message}" for name in absent]


def _of_record(
    record: DeploymentRecord, every: Sequence[Endpoint], models: Mapping[str, str], now: float
) -> Leak | None:
    """Return the resources of an interrupted deployment; None if there are none. `models` are names by their key."""
    found = next((item for item in every if bare_name(item.name) == bare_name(record.endpoint)), None)
    mine = [
        item
        for item in (found.deployed_models if found else ())
        if record.own_endpoint or item.id == record.deployed_model
    ]
    there = [f"{found.name}/deployedModels/{item.id}" for item in mine] if found else []
    there += [found.name] if found and record.own_endpoint else []
    there += [models[bare_name(record.model)]] if bare_name(record.model) in models else []
    if not there:
        return None
    reason = "its command ended before it served"
    if record.phase == "deployed":
        reason = "it serves, but its command did not finish"
    elif record.phase == "handed over":
        reason = "it was started without waiting, and is not complete"
    return Leak(
        kind="unfinished deployment",
        resource=record.endpoint,
        deployed_model=mine[0].id if mine else "",
        display_name=found.display_name if found else "",
        usd_per_hour=hourly_total(mine),
        age=now - record.time,
        resources=tuple(there),
        reason=reason,
        record=record,
    )


def _of_deployed(
    endpoint: Endpoint,
    item: DeployedModel,
    labels: dict[str, str],
    asked: dict[tuple[str, str], float] | None,
    now: float,
) -> Leak | None:
    if not any(managed(found) for found in (labels, endpoint.labels, item.labels)):
        return None
    lease = lease_of(endpoint, item, labels)
    made = times.seconds_of(item.create_time)
    reason = _ended(lease, made, None if asked is None else asked.get((endpoint.id, item.id), 0.0), now)
    if reason is None:
        return None
    return Leak(
        kind=reason[0],
        resource=endpoint.name,
        deployed_model=item.id,
        display_name=item.display_name or endpoint.display_name,
        usd_per_hour=hourly_total([item]),
        age=None if made is None else now - made,
        resources=_going(endpoint, item),
        reason=reason[1],
    )


def _going(endpoint: Endpoint, item: DeployedModel) -> tuple[str, ...]:
    """Return the resources that are removed when a model is undeployed."""
    own = made_here(endpoint)
    last = own and len(endpoint.deployed_models) == 1
    model = [item.model.split("@", 1)[0]] if item.model else []
    return (f"{endpoint.name}/deployedModels/{item.id}", *([endpoint.name] if last else []), *model)


def _ended(lease: Lease, made: float | None, asked: float | None, now: float) -> tuple[Kind, str] | None:
    if lease.until is not None and now >= lease.until:
        return "expired", f"its lease ended {duration(now - lease.until)} ago"
    # If requests are not counted, or the age is unknown, only the lease counts.
    if lease.idle is not None and asked is not None and made is not None:
        quiet = now - max(asked, made)
        if quiet >= lease.idle:
            return "idle", f"no request for {duration(quiet)}"
    return None


def _of_empty(endpoint: Endpoint, now: float, grace: float) -> Leak | None:
    ours = made_here(endpoint)
    age = _age(endpoint.create_time, now)
    if endpoint.deployed_models or not ours or age < grace:
        return None
    return Leak(
        kind="empty endpoint",
        resource=endpoint.name,
        display_name=endpoint.display_name,
        age=age,
        resources=(endpoint.name,),
        reason="it has no model",
    )


def _of_model(model: ModelResource, now: float) -> Leak:
    return Leak(
        kind="orphaned model",
        resource=model.name,
        display_name=model.display_name,
        age=_age(model.create_time, now),
        resources=(model.name,),
        reason="it was created for a deployment and is not deployed",
    )


def _deployable(model: ModelResource) -> bool:
    """Return whether a deployment of this tool created a model; models of tuning jobs are not leaks."""
    return model.id.startswith(ID_PREFIX) or (managed(model.labels) and LEASE_LABEL in model.labels)


def _made(record: DeploymentRecord, name: str) -> bool:
    return record.own_endpoint or name == record.model


def _remove(session: Session, leak: Leak, progress: Callable[[str], None] | None) -> list[str]:
    if leak.kind == "orphaned model":
        ask = partial(endpoints.delete_model, session, leak.resource)
        return [leak.resource] if recovery.removed(session, ask, leak.resource, timeout=300) else []
    endpoint = endpoints.get_endpoint(session, leak.resource)
    if leak.kind == "empty endpoint":
        ask = partial(endpoints.delete_endpoint, session, leak.resource)
        return [leak.resource] if recovery.removed(session, ask, leak.resource, timeout=300) else []
    item = next((item for item in endpoint.deployed_models if item.id == leak.deployed_model), None)
    if item is None:
        return []
    labels = endpoints.get_model(session, item.model).get("labels") or {} if item.model else {}
    now = session.now()
    asked = usage.last_requests(session, now - _LONGEST_IDLE) if leak.kind == "idle" else None
    if _of_deployed(endpoint, item, labels, asked, now) is None:
        return []  # extended or used since
    alone = len(endpoint.deployed_models) == 1
    own = made_here(endpoint)
    return undeploy(session, endpoint, only=item.id, delete=alone and own, progress=progress)


def _age(create_time: str, now: float) -> float:
    """Return the seconds since a time; 0 for an unreadable time, so that nothing is removed by mistake."""
    made = times.seconds_of(create_time)
    return 0.0 if made is None else now - made
