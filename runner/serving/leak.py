"""The data of a leak."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from runner.serving.journal import DeploymentRecord

Kind = Literal[
    "expired",
    "idle",
    "empty endpoint",
    "orphaned model",
    "unfinished deployment",
    "stale staging object",
    "stale image",
    "stale checkpoint",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """One resource that is no longer used."""

    kind: Kind
    resource: str
    """Full name of the endpoint or model, or of the endpoint of an unfinished deployment; address of stored objects."""
    reason: str
    deployed_model: str = ""
    display_name: str = ""
    usd_per_hour: float | None = 0.0
    """Hourly cost while it exists; None if the price is unknown."""
    age: float | None = None
    """Seconds since its creation."""
    resources: tuple[str, ...] = ()
    """Full names or addresses of all resources that are removed with it."""
    generations: tuple[int, ...] = ()
    """Generations of stored objects, in the order of `resources`: new content with the same name is another object."""
    record: DeploymentRecord | None = None

    @property
    def usd_per_day(self) -> float | None:
        """Return 24 times the hourly cost."""
        return None if self.usd_per_hour is None else 24 * self.usd_per_hour

    def to_json(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        return {
            "kind": self.kind,
            "resource": self.resource,
            "deployedModel": self.deployed_model or None,
            "displayName": self.display_name,
            "resources": list(self.resources),
            "reason": self.reason,
            "usdPerDay": None if self.usd_per_day is None else round(self.usd_per_day, 6 if self.generations else 2),
            "ageSeconds": None if self.age is None else round(self.age),
        }
