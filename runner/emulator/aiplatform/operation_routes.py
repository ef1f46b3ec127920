"""Operations of a location, and of its endpoints and models: get, list, wait, cancel.

SDKs poll under `/ui/`, which is another name for v1beta1.
"""

from __future__ import annotations

import asyncio
import sqlite3
from typing import Any

from starlette.responses import Response

from runner.emulator import operations, store
from runner.emulator.aiplatform import long_running, scope
from runner.emulator.errors import ApiError
from runner.emulator.resources import listing, reading
from runner.emulator.routing import ApiRequest, Method, json_response

_PARENT = "/{version=v1|v1beta1|ui}/projects/{project}/locations/{location}"
_OPERATION = "/operations/{operation}"
_MAX_WAIT_SECONDS = 8.0
"""The SDKs' limit for a response is 10 seconds."""
_WAIT_POLL_SECONDS = 0.1


def _parent(connection: sqlite3.Connection, request: ApiRequest) -> str:
    """Return the full name of the location or resource whose operations a path names."""
    where = scope.resolve(connection, request.fields)
    if "collection" in request.fields:
        return f"{where.name}/{request.fields['collection']}/{request.fields['resource']}"
    return where.name


def _get(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    name = f"{_parent(connection, request)}/operations/{request.fields['operation']}"
    operation = store.find(connection, operations.KIND, name)
    if operation is None:
        # The service also finds an operation by its ID under the location, regardless of its resource.
        operation = _anywhere(connection, request)
    if operation is None:
        raise ApiError("NOT_FOUND", f"Operation {name} is not found.")
    return operation


def _shown(request: ApiRequest, operation: dict[str, Any]) -> dict[str, Any]:
    # SDKs of both versions poll below `/ui/`, and decode the type of the version with which they started the operation.
    version = request.fields["version"]
    return operation if version == "ui" else long_running.shown(operation, version)


def _anywhere(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any] | None:
    if "collection" in request.fields:
        return None
    where = scope.resolve(connection, request.fields)
    ending = f"/operations/{request.fields['operation']}"
    found = (body for name, body in store.scan(connection, operations.KIND, f"{where.name}/") if name.endswith(ending))
    return next(found, None)


@reading
def get(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Return the current state of an operation."""
    return _shown(request, _get(connection, request))


async def wait(request: ApiRequest) -> Response:
    """Return an operation when it is complete, or its current state after a while."""
    given = request.query_params.get("timeout")
    seconds = min(float(given.removesuffix("s")), _MAX_WAIT_SECONDS) if given else _MAX_WAIT_SECONDS
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        operation = request.emulator.store.read(lambda connection: _get(connection, request))
        if operation.get("done") or asyncio.get_running_loop().time() >= deadline:
            return json_response(_shown(request, operation))
        await asyncio.sleep(_WAIT_POLL_SECONDS)


@listing("operations", filtered=True)
def list_operations(connection: sqlite3.Connection, request: ApiRequest) -> list[dict[str, Any]]:
    """Return one page of the operations of a location or of one resource."""
    prefix = f"{_parent(connection, request)}/"
    return [_shown(request, body) for _, body in store.scan(connection, operations.KIND, prefix)]


@reading
def cancel(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Accept the request; as on the service, cancellation is not guaranteed."""
    _get(connection, request)
    return {}


def _methods() -> list[Method]:
    found: list[Method] = []
    for collection in ("", "endpoints", "models"):
        prefix = "aiplatform.projects.locations" + (f".{collection}" if collection else "") + ".operations"
        path = _PARENT + (f"/{{collection={collection}}}/{{resource}}" if collection else "")
        found += [
            Method(f"{prefix}.list", "GET", f"{path}/operations", list_operations),
            Method(f"{prefix}.get", "GET", f"{path}{_OPERATION}", get),
            Method(f"{prefix}.wait", "POST", f"{path}{_OPERATION}:wait", wait),
            Method(f"{prefix}.cancel", "POST", f"{path}{_OPERATION}:cancel", cancel),
        ]
    return found


METHODS = _methods()
