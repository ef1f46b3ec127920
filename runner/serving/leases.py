"""Leases of deployments: read from labels, extended with labels.

The lease of a deployed model is a label of its Model resource, which belongs to this tool even on an endpoint that
somebody else created, and a label of the endpoint if this tool created it. Until these labels exist, the labels of the
deployment count.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from runner import times
from runner.environment import Environment
from runner.errors import ConfigurationError
from runner.formatting import duration
from runner.gcp import endpoints
from runner.gcp.endpoints import DeployedModel, Endpoint
from runner.gcp.session import Session
from runner.jobs.labels import managed
from runner.serving.labels import IDLE_LABEL, LABELS, LEASE_LABEL, lease_labels, number_of
from runner.serving.recovery import is_ours


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """When a deployment ends. Both None for a deployment without a lease."""

    until: float | None = None
    """Seconds since 1970."""
    idle: float | None = None
    """Seconds without a request."""

    def to_json(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        return {"leaseUntil": None if self.until is None else times.to_seconds(self.until), "idleSeconds": self.idle}


def lease_of(endpoint: Endpoint, item: DeployedModel, model_labels: Mapping[str, str]) -> Lease:
    """Return the lease of a deployed model, from the first of model, endpoint and deployment that has one."""
    for labels in (model_labels, endpoint.labels if managed(endpoint.labels) else {}, item.labels):
        if LEASE_LABEL in labels:
            return Lease(until=number_of(labels, LEASE_LABEL), idle=number_of(labels, IDLE_LABEL))
    return Lease()


def own_models(session: Session, endpoint: Endpoint) -> list[DeployedModel]:
    """Return this tool's models on an endpoint. Raises ConfigurationError if there are none."""
    own = [item for item in endpoint.deployed_models if is_ours(session, endpoint, item)]
    if not own:
        message = f"nothing on endpoint {endpoint.id} was deployed by this tool"
        raise ConfigurationError(message, hint="`runner endpoints ls` lists the deployments of this tool")
    return own


def extend(
    session: Session, endpoint: Endpoint, lease: float | None, idle: float | Literal["as before"] | None = "as before"
) -> Lease:
    """Set the end of this tool's models on an endpoint to `lease` seconds from now; None removes the end.

    Args:
        session: the project and location.
        endpoint: the endpoint.
        lease: seconds from now.
        idle: new idle limit in seconds; None for no limit.

    Raises:
        ConfigurationError: no model on it belongs to this tool.
        GoogleApiError: the service refused, or its responses contain a wrong time.
    """
    result = Lease()
    for item in own_models(session, endpoint):
        model = item.model.split("@", 1)[0]
        there: dict[str, str] = dict(endpoints.get_model(session, model).get("labels") or {}) if model else {}
        kept = lease_of(endpoint, item, there).idle if idle == "as before" else idle
        labels = lease_labels(lease, kept, now=session.now())
        if model:
            endpoints.set_model_labels(session, model, {**there, **LABELS, **labels})
        result = Lease(until=number_of(labels, LEASE_LABEL), idle=number_of(labels, IDLE_LABEL))
        if managed(endpoint.labels):
            endpoints.set_labels(session, endpoint.name, {**endpoint.labels, **labels})
    session.now()  # refuses a time at which the service cannot have changed them
    return result


def starting(lease: float | None, idle: float | None, *, now: float) -> Lease:
    """Return a lease of this many seconds that begins now, by the service's clock; None is no end and no limit."""
    return Lease(until=None if lease is None else now + lease, idle=idle)


def ending(environment: Environment, lease: Lease, name: str = "", *, now: float) -> str:
    """Describe how long a deployment is billed, and what ends it: a lease alone ends nothing.

    Args:
        environment: the environment of the deployment.
        lease: the lease of the deployment.
        name: name of the endpoint, for the command that undeploys it.
        now: by the service's clock, in seconds since 1970.
    """
    by_hand = f"`runner endpoints undeploy {name or 'ENDPOINT'}`"
    quiet = "" if lease.idle is None else f"after {duration(lease.idle)} without a request"
    ends = ""
    if lease.until is not None:
        verb = "ends" if lease.until > now else "ended"
        ends = f"its lease {verb} {times.to_seconds(lease.until)[:16].replace('T', ' ')} UTC"
    minutes = environment.idle_guard_minutes
    if minutes and (ends or quiet):
        when = ", or ".join(filter(None, ("then" if ends else "", quiet)))
        return f"{ends or 'it has no lease'}; the idle guard, which looks every {minutes} min, undeploys it {when}"
    if not ends:
        return f"it has no lease: it is billed until {by_hand}"
    offer = "`runner emulator provision`" if environment.target.free else "`runner infra up` with `idleGuard`"
    return (
        f"{ends}, but nothing here undeploys it: this environment has no idle guard. It is billed until "
        f"`runner leaks --clean` or {by_hand}; {offer} adds a guard"
    )
