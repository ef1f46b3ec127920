"""When deployed models were last asked: Cloud Monitoring's count of requests, by plain REST."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from runner.errors import GoogleApiError
from runner.gcp.failures import call, check
from runner.gcp.session import Session

PREDICTION_COUNT = "aiplatform.googleapis.com/prediction/online/prediction_count"
_MONITORING = "https://monitoring.googleapis.com"


def last_requests(session: Session, since: float) -> dict[tuple[str, str], float] | None:
    """Return when each deployed model was last asked, by endpoint id and deployed model id, in seconds since 1970.

    A model that is missing was not asked since `since`. A custom address of Vertex AI is asked for this too. Points
    come some minutes late.

    Args:
        session: where.
        since: seconds since 1970.

    Returns:
        None where the service cannot tell: it is switched off, or may not be read.
    """
    base = session.environment.vertex_url or _MONITORING
    parent = f"projects/{session.environment.project}"
    fixed = {
        "filter": f'metric.type = "{PREDICTION_COUNT}" AND resource.labels.location = "{session.environment.location}"',
        "interval.startTime": _text(since),
        "interval.endTime": _text(datetime.now(UTC).timestamp()),
        "view": "FULL",
    }
    found: dict[tuple[str, str], float] = {}
    token = ""
    while True:
        parameters = {**fixed, **({"pageToken": token} if token else {})}

        def read(parameters: dict[str, str] = parameters) -> dict[str, Any]:
            response = session.http.get(f"{base}/v3/{parent}/timeSeries", params=parameters)
            return check(response, "monitoring.timeSeries.list", parent)

        try:
            page = call("monitoring.timeSeries.list", parent, read, idempotent=True)
        except GoogleApiError:
            return None
        for series in page.get("timeSeries", []):
            key = (
                str(series.get("resource", {}).get("labels", {}).get("endpoint_id", "")),
                str(series.get("metric", {}).get("labels", {}).get("deployed_model_id", "")),
            )
            moments = [_moment(point) for point in series.get("points", []) if _asked(point)]
            if moments:
                found[key] = max(found.get(key, 0.0), *moments)
        token = str(page.get("nextPageToken", ""))
        if not token:
            return found


def _asked(point: dict[str, Any]) -> bool:
    value = point.get("value", {})
    return float(value.get("int64Value", value.get("doubleValue", 0)) or 0) > 0


def _moment(point: dict[str, Any]) -> float:
    return datetime.fromisoformat(str(point["interval"]["endTime"])).timestamp()


def _text(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
