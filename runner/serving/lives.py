"""The age, end and purpose of deployments, and their cost so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from runner import times
from runner.errors import GoogleApiError
from runner.gcp import usage
from runner.gcp.deployed import list_models
from runner.gcp.endpoints import Endpoint, bare_name
from runner.gcp.session import Session
from runner.prices import total
from runner.serving.leases import Lease, lease_of
from runner.serving.plan import hourly_total


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """The data on the models of one endpoint. Times are seconds; None if unknown."""

    age: float | None = None
    """Age of the oldest serving model."""
    lease: Lease = field(default_factory=Lease)
    """The lease that ends first."""
    quiet: float | None = None
    """Seconds since the last request, or since the deployment if there was none."""
    usd: float | None = None
    """List price of the serving models for their age."""

    def to_json(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        rounded = {"ageSeconds": self.age, "quietSeconds": self.quiet}
        numbers = {name: None if value is None else round(value) for name, value in rounded.items()}
        return {**numbers, **self.lease.to_json(), "usdSoFar": None if self.usd is None else round(self.usd, 4)}


def lives(session: Session, endpoints: Sequence[Endpoint]) -> dict[str, Life]:
    """Return the data of endpoints by ID, with one request for the models and one for the metrics."""
    serving = [endpoint for endpoint in endpoints if endpoint.deployed_models]
    if not serving:
        return {endpoint.id: Life() for endpoint in endpoints}
    now = session.now()
    made = {item.id: times.seconds_of(item.create_time) for endpoint in serving for item in endpoint.deployed_models}
    try:
        labels = {bare_name(model.name): model.labels for model in list_models(session)}
    except GoogleApiError:
        labels = {}
    asked = usage.last_requests(session, min((since for since in made.values() if since), default=now))
    return {endpoint.id: _life(endpoint, labels, made, asked, now) for endpoint in endpoints}


def _life(
    endpoint: Endpoint,
    labels: dict[str, dict[str, str]],
    made: dict[str, float | None],
    asked: dict[tuple[str, str], float] | None,
    now: float,
) -> Life:
    ages: list[float] = []
    quiet: list[float] = []
    leases: list[Lease] = []
    costs: list[float | None] = []
    for item in endpoint.deployed_models:
        since = made.get(item.id)
        leases.append(lease_of(endpoint, item, labels.get(bare_name(item.model), {})))
        price = hourly_total([item])
        costs.append(None if since is None or price is None else price * max(0.0, now - since) / 3600)
        # The service's clock has a resolution of one second; timestamps of its resources have a higher one.
        if since is not None:
            ages.append(max(0.0, now - since))
            if asked is not None:
                quiet.append(max(0.0, now - max(since, asked.get((endpoint.id, item.id), 0.0))))
    first = min(leases, key=lambda lease: lease.until or float("inf"), default=Lease())
    return Life(age=max(ages, default=None), lease=first, quiet=min(quiet, default=None), usd=total(costs))
