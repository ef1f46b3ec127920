"""The number and type of machines that serve a model, and who can reach it; checked before a request is sent."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from runner.catalog import machines
from runner.catalog.models import MachineChoice
from runner.errors import Problem

Access = Literal["default", "shared", "dedicated", "private"]

METRICS = {
    "cpu": "aiplatform.googleapis.com/prediction/online/cpu/utilization",
    "gpu": "aiplatform.googleapis.com/prediction/online/accelerator/duty_cycle",
    "requests": "aiplatform.googleapis.com/prediction/online/request_count",
}
"""Metrics that replicas can follow (AutoscalingMetricSpec)."""
SHORTEST_IDLE_SECONDS = 300.0
LONGEST_IDLE_SECONDS = 28800.0
"""Limits of DedicatedResources.ScaleToZeroSpec."""
_RESERVATION = re.compile(r"projects/[^/]+/zones/[^/]+/reservations/[^/]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """The resources of a deployment besides its machine type. The default is one on-demand machine without scaling."""

    min_replicas: int = 1
    max_replicas: int = 1
    autoscale: tuple[tuple[str, int], ...] = ()
    """Metric of METRICS and its target: percent, or requests per minute."""
    spot: bool = False
    """Cheaper machines that can be preempted at any time."""
    reservation: str | None = None
    """`any`, `none`, or `projects/P/zones/Z/reservations/R`."""
    scale_to_zero: float | None = None
    """Seconds without a request after which there are no replicas; None keeps the minimum."""

    def problems(self, machine: MachineChoice | None) -> list[str]:
        """Describe contradictory settings."""
        found = [*self._replica_problems(), *self._autoscale_problems(machine)]
        if self.spot and self.reservation not in (None, "none"):
            found.append(Problem("Spot VMs do not use reservations", "spot", "reservation"))
        if self.reservation not in (None, "any", "none") and not _RESERVATION.fullmatch(self.reservation or ""):
            found.append(
                f"reservation {self.reservation!r} is not any, none or projects/PROJECT/zones/ZONE/reservations/NAME"
            )
        return found + machine_problems(machine)

    def _replica_problems(self) -> list[str]:
        found: list[str] = []
        if self.max_replicas < max(1, self.min_replicas):
            found.append(f"at most {self.max_replicas} replicas are fewer than at least {self.min_replicas}")
        if self.scale_to_zero is None and self.min_replicas < 1:
            problem = "zero replicas need a time without requests after which to scale to zero"
            found.append(Problem(problem, "min_replicas", "scale_to_zero"))
        if self.scale_to_zero is not None and self.min_replicas > 0:
            problem = f"at least {self.min_replicas} replicas cannot scale to zero"
            found.append(Problem(problem, "min_replicas", "scale_to_zero"))
        if self.scale_to_zero is not None and not SHORTEST_IDLE_SECONDS <= self.scale_to_zero <= LONGEST_IDLE_SECONDS:
            problem = "the time without requests before scaling to zero must be between 5 minutes and 8 hours"
            found.append(Problem(problem, "scale_to_zero"))
        return found

    def _autoscale_problems(self, machine: MachineChoice | None) -> list[str]:
        found: list[str] = []
        names = [name for name, _ in self.autoscale]
        for name, target in self.autoscale:
            if name not in METRICS:
                found.append(f"{name!r} is not an autoscaling metric: {', '.join(METRICS)}")
            elif names.count(name) > 1:
                found.append(f"the metric {name} is given twice")
            elif target < 1 or (name != "requests" and target > 100):
                found.append(f"the target of {name} is {target}: 1 to 100 percent")
        if self.autoscale and self.max_replicas <= max(1, self.min_replicas):
            found.append(Problem("autoscaling needs more than one replica", "autoscale", "max_replicas"))
        if "gpu" in names and machine is not None and not machine.accelerator_count:
            found.append(f"{machine.machine_type} has no accelerator whose use can be measured")
        return list(dict.fromkeys(found))

    def body(self) -> dict[str, Any]:
        """Return the API's DedicatedResources without the machine."""
        least = 0 if self.scale_to_zero is not None else self.min_replicas
        body: dict[str, Any] = {"minReplicaCount": least, "maxReplicaCount": self.max_replicas}
        if self.autoscale:
            body["autoscalingMetricSpecs"] = [
                {"metricName": METRICS[name], "target": target} for name, target in self.autoscale
            ]
        if self.spot:
            body["spot"] = True
        if self.scale_to_zero is not None:
            body["initialReplicaCount"] = 1
            body["scaleToZeroSpec"] = {"idleScaledownPeriod": f"{self.scale_to_zero:.0f}s"}
        return body

    def affinity(self) -> dict[str, Any]:
        """Return the API's ReservationAffinity; {} for the service's default."""
        if self.reservation is None:
            return {}
        if self.reservation in ("any", "none"):
            kind = "ANY_RESERVATION" if self.reservation == "any" else "NO_RESERVATION"
            return {"reservationAffinityType": kind}
        return {
            "reservationAffinityType": "SPECIFIC_RESERVATION",
            "key": "compute.googleapis.com/reservation-name",
            "values": [self.reservation],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """Who can reach a new endpoint."""

    access: Access = "default"
    """`shared` and `dedicated` are public; `private` is Private Service Connect; the default is the service's own."""
    projects: tuple[str, ...] = ()
    """Projects that can connect to a private endpoint."""

    def problems(self, existing: str | None) -> list[str]:
        """Describe contradictory settings. `existing` is the endpoint to deploy to."""
        if self.projects and self.access in ("shared", "dedicated"):
            problem = f"a {self.access} endpoint has no list of projects: only a private one has"
            return [Problem(problem, "access", "projects")]
        if self.access == "default":
            return []
        if existing:
            problem = f"endpoint {existing} already exists: only a new endpoint can be made {self.access}"
            return [Problem(problem, "endpoint", "projects" if self.access == "private" else "access")]
        if self.access == "private" and not self.projects:
            return [Problem("a private endpoint needs the projects that may connect to it", "projects")]
        return []

    def body(self) -> dict[str, Any]:
        """Return the additional fields of the API's EndpointConfig."""
        if self.access == "private":
            return {
                "privateServiceConnectConfig": {
                    "enablePrivateServiceConnect": True,
                    "projectAllowlist": list(self.projects),
                }
            }
        return {
            "shared": {"dedicatedEndpointDisabled": True},
            "dedicated": {"dedicatedEndpointEnabled": True},
        }.get(self.access, {})


def machine_problems(machine: MachineChoice | None) -> list[str]:
    """Return the errors of a machine and its accelerators; machines that are not in the catalog are accepted."""
    if machine is None:
        return []
    fitting = [known for known in machines() if known.machine_type == machine.machine_type]
    pairs = {(known.accelerator_type, known.accelerator_count) for known in fitting}
    if not fitting or (machine.accelerator_type, machine.accelerator_count) in pairs:
        return []
    has = " or ".join(f"{count} {kind}" for kind, count in sorted(pairs))
    given = f"{machine.accelerator_count} {machine.accelerator_type}"
    return [f"machine type {machine.machine_type} has {has}, not {given}"]
