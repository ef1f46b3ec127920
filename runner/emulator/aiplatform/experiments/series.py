"""The curves of a run: a time series for each quantity that the training process of its job measured."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

from runner.emulator.aiplatform import filters, tuning_events, tuning_experiments
from runner.emulator.errors import ApiError, invalid

Document = dict[str, Any]

_QUANTITIES = {
    "train/loss": ("step", "loss"),
    "train/learning_rate": ("step", "learning_rate"),
    "train/tokens": ("step", "tokens"),
    "train/epoch": ("step", "epoch"),
    "eval/loss": ("evaluation", "loss"),
}
"""Maps names of series to the kind of event and the field with the value."""
_POINT_FIELDS = frozenset({"step", "wallTime"})
_DEFAULT_POINTS = 1000


def of_run(connection: sqlite3.Connection, run: str) -> list[Document]:
    """Return the time series of a run, ordered by name, each with its points under `points`. Raises ApiError."""
    job = tuning_experiments.job_of(connection, run)
    events = tuning_events.after(connection, job, 0, limit=1_000_000)
    found = []
    for title, (kind, field) in sorted(_QUANTITIES.items()):
        points = [
            {"scalar": {"value": float(event[field])}, "step": str(event["step"]), "wallTime": event["time"]}
            for event in events
            if event["kind"] == kind and isinstance(event.get(field), int | float)
        ]
        if points:
            last = points[-1]
            found.append(
                {
                    "name": f"{run}/timeSeries/{_id(run, title)}",
                    "displayName": title,
                    "valueType": "SCALAR",
                    "pluginName": "scalars",
                    "createTime": points[0]["wallTime"],
                    "updateTime": last["wallTime"],
                    "metadata": {"maxStep": last["step"], "maxWallTime": last["wallTime"]},
                    "points": points,
                }
            )
    return found


def _id(run: str, title: str) -> str:
    number = int.from_bytes(hashlib.sha256(f"{run}/{title}".encode()).digest()[:8], "big")
    return str(10**18 + number % (9 * 10**18))


def get(connection: sqlite3.Connection, name: str) -> Document:
    """Return one time series with its points. Raises ApiError NOT_FOUND."""
    for item in of_run(connection, name.rpartition("/timeSeries/")[0]):
        if item["name"] == name:
            return item
    raise ApiError("NOT_FOUND", f"The TensorboardTimeSeries {name} does not exist.")


def shown(series: Document) -> Document:
    """Return a time series as a resource, without its points."""
    return {key: value for key, value in series.items() if key != "points"}


def data(series: Document, points: Sequence[Document]) -> Document:
    """Return points of a time series as a `TimeSeriesData`."""
    ident = series["name"].rpartition("/")[2]
    return {"tensorboardTimeSeriesId": ident, "valueType": series["valueType"], "values": list(points)}


def matching(text: str) -> Callable[[Sequence[Document]], list[Document]]:
    """Return a function that selects the points for a filter on `step` and `wall_time`. Raises ApiError."""
    matches = filters.compile_filter(text, _POINT_FIELDS)
    return lambda points: [point for point in points if matches(point)]


def thinned(points: Sequence[Document], asked: str | None) -> list[Document]:
    """Return at most this many points (default 1000; -1 for all), evenly distributed, with the first and the last.

    Raises ApiError INVALID_ARGUMENT.
    """
    most = int(asked or 0) or _DEFAULT_POINTS
    if most < -1:
        raise invalid(f"Invalid max_data_points: {most}.")
    if most == -1 or len(points) <= most:
        return list(points)
    if most == 1:
        return [points[-1]]
    return [points[index * (len(points) - 1) // (most - 1)] for index in range(most)]
