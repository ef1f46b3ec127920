"""Dedicated endpoints: each has a host name on a separate TLS port, which accepts only predictions.

They exist only if the server has a certificate. The caller must ensure that the names resolve to this machine, as
`localhost` does everywhere.
"""

from __future__ import annotations

from typing import Any

from runner.emulator.errors import ApiError
from runner.emulator.routing import ApiRequest
from runner.emulator.settings import EmulatorSettings


def dns(settings: EmulatorSettings, name: str) -> str:
    """Return the host and port for an endpoint's full name; "" if the server has no certificate."""
    if not settings.dedicated_certificate:
        return ""
    _, number, _, location, _, identity = name.split("/")
    host = settings.dedicated_host
    for key, value in (("endpoint", identity), ("location", location), ("number", number)):
        host = host.replace(f"{{{key}}}", value)
    return f"{host}:{settings.dedicated_port}"


def shown(settings: EmulatorSettings, endpoint: dict[str, Any]) -> dict[str, Any]:
    """Return an endpoint for a response: a dedicated one with its host name."""
    name = dns(settings, endpoint["name"]) if endpoint.get("dedicatedEndpointEnabled") else ""
    return {**endpoint, "dedicatedEndpointDns": name} if name else endpoint


def refuse_shared(request: ApiRequest, endpoint: dict[str, Any]) -> None:
    """Refuse a prediction at the wrong host. Raises ApiError FAILED_PRECONDITION."""
    name = shown(request.emulator.settings, endpoint).get("dedicatedEndpointDns", "")
    own = request.scope.get("extensions", {}).get("dedicated") is not None
    if own and request.headers.get("host", "") != name:
        raise ApiError("PERMISSION_DENIED", "The endpoint is not served at this host.", http=421)
    if name and not own:
        raise ApiError(
            "FAILED_PRECONDITION",
            "This endpoint is a dedicated endpoint and cannot be accessed through the shared host. Please access the "
            f"endpoint using its dedicated DNS name '{name}'.",
        )
