"""`projects.timeSeries.list` for the measured metrics: requests to deployed models, their errors and latencies."""

from __future__ import annotations

import re
import sqlite3
from datetime import datetime
from typing import Any

from runner import times
from runner.emulator import enablement, projects
from runner.emulator.aiplatform import lifecycle
from runner.emulator.aiplatform.usage import Minute
from runner.emulator.errors import invalid
from runner.emulator.resources import reading
from runner.emulator.routing import ApiRequest

_ONLINE = "aiplatform.googleapis.com/prediction/online"
METRICS = {
    f"{_ONLINE}/prediction_count": "INT64",
    f"{_ONLINE}/error_count": "INT64",
    f"{_ONLINE}/prediction_latencies": "DISTRIBUTION",
}
"""Maps metrics to value types; latencies are in milliseconds."""
_RESOURCE = "aiplatform.googleapis.com/Endpoint"
_TERM = re.compile(
    r'\s*(metric\.type|resource\.type|resource\.labels?\.[a-z_]+|metric\.labels?\.[a-z_]+)\s*=\s*"([^"]*)"\s*'
)
_SECONDS = 60


@reading
def list_series(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Return the series that match a filter of `field = "value"` terms joined by AND, newest points first."""
    query = request.query_params
    wanted = _terms(query.get("filter", ""))
    end = _moment(query.get("interval.endTime", ""), "interval.end_time")
    start = _moment(query["interval.startTime"], "interval.start_time") if query.get("interval.startTime") else end
    if start > end:
        raise invalid("The start time must not be later than the end time.")
    project = projects.resolve(connection, request.fields["project"])
    enablement.require(connection, project, "monitoring.googleapis.com")
    found = []
    for name, minutes in lifecycle.runtime(request.emulator).usage.of_project(connection, project.number):
        series = _series(wanted["metric.type"], project.id, project.number, name, minutes, start, end)
        if series["points"] and _matches(series, wanted):
            found.append(series)
    return {"timeSeries": found} if found else {}


def _terms(text: str) -> dict[str, str]:
    terms: dict[str, str] = {}
    for part in re.split(r"\bAND\b", text):
        match = _TERM.fullmatch(part)
        if match is None:
            raise invalid(f"Field filter had an invalid value of {text!r}: could not parse {part.strip()!r}.")
        terms[match[1].replace(".label.", ".labels.")] = match[2]
    if "metric.type" not in terms:
        raise invalid("The supplied filter does not specify a valid combination of metric and monitored resource.")
    return terms


def _moment(text: str, field: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError as error:
        raise invalid(f"Field {field} had an invalid value of {text!r}: it must be an RFC 3339 time.") from error


def _series(
    metric: str, project: str, number: str, name: str, minutes: dict[int, Minute], start: float, end: float
) -> dict[str, Any]:
    parts = name.split("/")
    inside = sorted((minute for minute in minutes if start < minute + _SECONDS and minute <= end), reverse=True)
    points = [(minute, _value(metric, minutes[minute])) for minute in inside]
    return {
        "metric": {"type": metric, "labels": {"deployed_model_id": parts[-1]}},
        "resource": {
            "type": _RESOURCE,
            "labels": {
                "project_id": project,
                "resource_container": number,
                "location": parts[3],
                "endpoint_id": parts[5],
            },
        },
        "metricKind": "DELTA",
        "valueType": METRICS.get(metric, "INT64"),
        "points": [
            {
                "interval": {"startTime": times.to_seconds(minute), "endTime": times.to_seconds(minute + _SECONDS)},
                "value": value,
            }
            for minute, value in points
            if value is not None
        ],
    }


def _value(metric: str, minute: Minute) -> dict[str, Any] | None:
    """Return a point's value; None for a metric that is not measured or has no value."""
    if metric == f"{_ONLINE}/prediction_count":
        return {"int64Value": str(minute.requests)}
    if metric == f"{_ONLINE}/error_count":
        return {"int64Value": str(minute.errors)} if minute.errors else None
    if metric == f"{_ONLINE}/prediction_latencies":
        mean = 1000 * minute.seconds / max(1, minute.requests)
        return {"distributionValue": {"count": str(minute.requests), "mean": round(mean, 3)}}
    return None


def _matches(series: dict[str, Any], wanted: dict[str, str]) -> bool:
    for key, value in wanted.items():
        found: Any = series
        for part in key.split("."):
            found = found.get(part, {}) if isinstance(found, dict) else {}
        if found != value:
            return False
    return True
