"""Requests and errors of deployed models: the metrics of Cloud Monitoring, with the REST API."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from runner import times
from runner.errors import GoogleApiError
from runner.gcp.session import Session

_ONLINE = "aiplatform.googleapis.com/prediction/online"
PREDICTION_COUNT = f"{_ONLINE}/prediction_count"
ERROR_COUNT = f"{_ONLINE}/error_count"
LATENCIES = f"{_ONLINE}/prediction_latencies"
_MONITORING = "https://monitoring.googleapis.com"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingFigures:
    """The metrics of one deployed model."""

    requests: int = 0
    errors: int = 0
    seconds: float | None = None
    """Mean response time; None if nothing was measured."""

    @property
    def error_rate(self) -> float:
        """Return errors per request; 0 if there were no requests."""
        return self.errors / self.requests if self.requests else 0.0


def last_requests(session: Session, since: float) -> dict[tuple[str, str], float] | None:
    """Return the times of the deployed models' last requests, by endpoint ID and model ID, in seconds since 1970.

    A model that is missing got no request since `since`. A custom address of Vertex AI also gets this request. Metrics
    arrive some minutes late.

    Args:
        session: the project and location.
        since: seconds since 1970.

    Returns:
        None if the metrics are disabled, or may not be read.
    """
    where = f'resource.labels.location = "{session.environment.location}"'
    try:
        series = _series(session, PREDICTION_COUNT, where, since)
    except GoogleApiError:
        return None
    found: dict[tuple[str, str], float] = {}
    for item in series:
        moments = [_moment(point) for point in item.get("points", []) if _count(point) > 0]
        if moments:
            key = (_label(item, "resource", "endpoint_id"), _label(item, "metric", "deployed_model_id"))
            found[key] = max(found.get(key, 0.0), *moments)
    return found


def serving_figures(session: Session, endpoint_id: str, since: float) -> dict[str, ServingFigures]:
    """Return the metrics of an endpoint's models since `since`, by deployed model ID.

    Raises:
        GoogleApiError: the metrics are disabled, or may not be read.
    """
    where = f'resource.labels.endpoint_id = "{endpoint_id}"'
    requests: dict[str, int] = {}
    errors: dict[str, int] = {}
    times: dict[str, tuple[float, float]] = {}
    for metric, into in ((PREDICTION_COUNT, requests), (ERROR_COUNT, errors)):
        for item in _series(session, metric, where, since):
            model = _label(item, "metric", "deployed_model_id")
            into[model] = into.get(model, 0) + sum(int(_count(point)) for point in item.get("points", []))
    for item in _series(session, LATENCIES, where, since):
        model = _label(item, "metric", "deployed_model_id")
        for point in item.get("points", []):
            body = point.get("value", {}).get("distributionValue", {})
            count, total = times.get(model, (0.0, 0.0))
            number = float(body.get("count", 0))
            times[model] = (count + number, total + number * float(body.get("mean", 0.0)) / 1000)
    return {
        model: ServingFigures(
            requests=requests.get(model, 0),
            errors=errors.get(model, 0),
            seconds=times[model][1] / times[model][0] if times.get(model, (0.0, 0.0))[0] else None,
        )
        for model in {*requests, *errors, *times}
    }


def _series(session: Session, metric: str, where: str, since: float) -> list[dict[str, Any]]:
    base = session.environment.vertex_url or _MONITORING
    parent = f"projects/{session.environment.project}"
    fixed = {
        "filter": f'metric.type = "{metric}" AND {where}',
        "interval.startTime": times.to_seconds(since),
        "interval.endTime": times.to_seconds(session.now()),
        "view": "FULL",
    }
    url = f"{base}/v3/{parent}/timeSeries"
    return list(session.pages(url, "timeSeries", "monitoring.timeSeries.list", fixed, resource=parent))


def _label(series: dict[str, Any], of: str, name: str) -> str:
    return str(series.get(of, {}).get("labels", {}).get(name, ""))


def _count(point: dict[str, Any]) -> float:
    value = point.get("value", {})
    return float(value.get("int64Value", value.get("doubleValue", 0)) or 0)


def _moment(point: dict[str, Any]) -> float:
    return datetime.fromisoformat(str(point["interval"]["endTime"])).timestamp()
