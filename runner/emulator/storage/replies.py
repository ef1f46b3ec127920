"""Responses of the JSON API, reduced to `fields`, and their handlers."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from runner.emulator import resources
from runner.emulator.field_selection import pick, selection
from runner.emulator.routing import ApiRequest, json_response


def reply(request: ApiRequest, resource: dict[str, Any] | None, status: int = 200) -> Response:
    """Respond with a resource, reduced to `fields` if the request contains it; 204 for None. Raises ApiError 400."""
    if resource is None:
        return Response(status_code=204)
    fields = request.query_params.get("fields")
    return json_response(pick(resource, selection(fields)) if fields else resource, status)


reading, writing = resources.answering(reply)
