"""Deployed models and their cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runner.gcp import endpoints
from runner.gcp.endpoints import Endpoint
from runner.gcp.session import Session
from runner.jobs.labels import managed
from runner.serving.labels import made_here
from runner.serving.plan import hourly_total


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedEndpoint:
    """An endpoint with its price."""

    endpoint: Endpoint
    ours: bool
    """Whether this tool created it, or deployed a model to it."""
    usd_per_hour: float | None
    """Price of all replicas; 0 if nothing is deployed, None if the price of a machine is unknown."""

    @property
    def billed(self) -> bool:
        """Return whether it costs money now."""
        return bool(self.endpoint.deployed_models)

    def to_json(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        return {
            **self.endpoint.to_json(),
            "ours": self.ours,
            "billed": self.billed,
            "usdPerHour": None if self.usd_per_hour is None else round(self.usd_per_hour, 4),
        }


def list_deployments(session: Session, *, only_ours: bool = False) -> list[ListedEndpoint]:
    """Return the endpoints of the location with their prices, billed ones first."""
    listed = [describe(endpoint) for endpoint in endpoints.list_endpoints(session)]
    kept = [item for item in listed if item.ours or not only_ours]
    return sorted(kept, key=lambda item: (not item.billed, item.endpoint.display_name, item.endpoint.id))


def describe(endpoint: Endpoint) -> ListedEndpoint:
    """Return an endpoint with its price."""
    ours = made_here(endpoint) or any(managed(item.labels) for item in endpoint.deployed_models)
    return ListedEndpoint(endpoint=endpoint, ours=ours, usd_per_hour=hourly_total(endpoint.deployed_models))
