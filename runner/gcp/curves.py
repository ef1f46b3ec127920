"""The curves of a tuning job: the TensorBoard run of its `experiment`, with the REST API."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from runner.errors import NotFoundError, PermissionDeniedError
from runner.gcp.session import Session, place_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One point of a curve."""

    step: int
    value: float | None
    """None for values that JSON cannot represent."""
    time: str
    """RFC 3339."""


def curves_of(session: Session, experiment: str) -> dict[str, list[Point]]:
    """Return the scalar curves of a job's experiment by name, with points ordered by step.

    The result is empty if the experiment, or a resource that it refers to, does not exist or is not visible to the
    caller.

    Args:
        session: the project and location.
        experiment: full name of the metadata context.

    Raises:
        GoogleApiError: the service refuses for another reason.
        UnreachableError: it does not answer.
    """
    there = session.at(session.environment.project, place_of(experiment)[1])
    try:
        context = there.ask("GET", f"/v1beta1/{experiment}", "contexts.get", experiment)
        board = str((context.get("metadata") or {}).get("backing_tensorboard_resource") or "")
        return _read(there, f"{board}/experiments/{experiment.rpartition('/')[2]}") if board else {}
    except (NotFoundError, PermissionDeniedError):
        return {}


def _read(session: Session, parent: str) -> dict[str, list[Point]]:
    found: dict[str, list[Point]] = {}
    for run in session.pages(f"/v1beta1/{parent}/runs", "tensorboardRuns", "tensorboardRuns.list"):
        path = f"/v1beta1/{run['name']}/timeSeries"
        for series in session.pages(path, "tensorboardTimeSeries", "tensorboardTimeSeries.list"):
            if series.get("valueType") == "SCALAR":
                found.setdefault(str(series.get("displayName", "")), []).extend(_points(session, series["name"]))
    return {name: sorted(points, key=lambda point: point.step) for name, points in found.items()}


def _points(session: Session, name: str) -> list[Point]:
    every = {"maxDataPoints": "-1"}
    answer = session.ask("GET", f"/v1beta1/{name}:read", "tensorboardTimeSeries.read", name, params=every)
    return [_point(item) for item in (answer.get("timeSeriesData") or {}).get("values", [])]


def _point(item: dict[str, Any]) -> Point:
    value = float((item.get("scalar") or {}).get("value", 0.0))  # a value of 0 is omitted; others can be text: "NaN"
    return Point(
        step=int(item.get("step", 0)),
        value=value if math.isfinite(value) else None,
        time=str(item.get("wallTime", "")),
    )
