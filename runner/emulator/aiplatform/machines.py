"""Machine specifications: the allowed combinations of machines and accelerators."""

from __future__ import annotations

from typing import Any

from runner.catalog import Model, machines
from runner.emulator.errors import invalid

DEFAULT_MACHINE = {"machineType": "g2-standard-12", "acceleratorType": "NVIDIA_L4", "acceleratorCount": 1}
"""The machine for a model without a recommendation (the specification's sample)."""

_RESERVED = ("ANY_RESERVATION", "SPECIFIC_RESERVATION")
_CPU_FAMILIES = ("n1-", "n2-", "n2d-", "c2-", "c2d-", "c3-", "e2-", "m1-", "t2d-")


def recommended(model: Model | None) -> dict[str, Any]:
    """Return the machine specification recommended for a base model."""
    if model is None or model.serving is None:
        return dict(DEFAULT_MACHINE)
    choice = model.serving
    return {
        "machineType": choice.machine_type,
        "acceleratorType": choice.accelerator_type,
        "acceleratorCount": choice.accelerator_count,
    }


def complete(resources: dict[str, Any] | None, model: Model | None) -> dict[str, Any]:
    """Return dedicated resources with machine and replica counts filled in.

    Raises:
        ApiError: INVALID_ARGUMENT for an unknown machine, wrong accelerators, or impossible replica counts.
    """
    given = dict(resources or {})
    spec = {key: value for key, value in given.get("machineSpec", {}).items() if value is not None}
    named = [key for key in ("machineType", "acceleratorType", "acceleratorCount") if spec.get(key)]
    if not named:
        spec |= recommended(model)
    else:
        _check(spec)
    if given.get("spot") and spec.get("reservationAffinity", {}).get("reservationAffinityType") in _RESERVED:
        raise invalid("Spot VMs cannot consume reservations.")
    return {**given, "machineSpec": spec, **_replicas(given)}


def _replicas(given: dict[str, Any]) -> dict[str, int]:
    """Return the complete replica counts. Raises ApiError INVALID_ARGUMENT."""
    to_zero = "scaleToZeroSpec" in given
    least = int(given.get("minReplicaCount", 0 if to_zero else 1))
    most = int(given.get("maxReplicaCount", max(1, least)))
    initial = int(given.get("initialReplicaCount", 0))
    if least < (0 if to_zero else 1) or most < max(1, least):
        raise invalid(f"Invalid replica counts: min_replica_count {least}, max_replica_count {most}.")
    if initial and (least or initial > most):
        raise invalid(
            f"Invalid initial_replica_count {initial}: it goes with min_replica_count 0, and is at most {most}."
        )
    for name in ("minScaleupPeriod", "idleScaledownPeriod"):
        period = (given.get("scaleToZeroSpec") or {}).get(name)
        seconds = str(period or "300s").removesuffix("s")
        if not seconds.replace(".", "", 1).isdecimal() or not 300 <= float(seconds) <= 28800:
            raise invalid(f"Invalid scale_to_zero_spec: {period} is not between 300s and 28800s.")
    # Zero is omitted, like every default value.
    return {**({"minReplicaCount": least} if least else {}), "maxReplicaCount": most}


def _check(spec: dict[str, Any]) -> None:
    machine = spec.get("machineType")
    if not machine:
        raise invalid("The machine_spec.machine_type field is required with accelerators.")
    accelerator, count = spec.get("acceleratorType"), spec.get("acceleratorCount", 0)
    if bool(accelerator) != bool(count):
        raise invalid("accelerator_type and accelerator_count must be set together in machine_spec.")
    if str(machine).startswith(_CPU_FAMILIES):
        if accelerator and not str(machine).startswith("n1-"):
            raise invalid(f"Machine type {machine} cannot be used with accelerators.")
        return
    fitting = [known for known in machines() if known.machine_type == machine]
    if not fitting:
        raise invalid(f"Machine type {machine} is not supported.")
    if not any((known.accelerator_type, known.accelerator_count) == (accelerator, count) for known in fitting):
        wanted = " or ".join(f"{known.accelerator_count} {known.accelerator_type}" for known in fitting)
        raise invalid(
            f"Accelerators {count} {accelerator} are not supported with machine type {machine}, which has {wanted}."
        )
