"""Operations of a location, and of the endpoints and models in it: get, list, wait, cancel.

SDKs poll under `/ui/`, which is v1beta1 by another name.
"""

from __future__ import annotations

import asyncio
import sqlite3
from typing import Any

from starlette.responses import Response

from runner.emulator import operations, store
from runner.emulator.aiplatform import collections, long_running, scope
from runner.emulator.errors import ApiError
from runner.emulator.routing import ApiRequest, Method, json_response

_PARENT = "/{version=v1|v1beta1|ui}/projects/{project}/locations/{location}"
_OPERATION = "/operations/{operation}"
_MAX_WAIT_SECONDS = 8.0
"""An answer must come within 10 seconds, the SDKs' limit."""
_WAIT_POLL_SECONDS = 0.1


def _name(connection: sqlite3.Connection, request: ApiRequest) -> str:
    where = scope.resolve(connection, request.fields)
    parent = where.name
    if "collection" in request.fields:
        parent = f"{parent}/{request.fields['collection']}/{request.fields['resource']}"
    return f"{parent}/operations/{request.fields['operation']}"


def _get(request: ApiRequest) -> dict[str, Any]:
    def work(connection: sqlite3.Connection) -> dict[str, Any]:
        name = _name(connection, request)
        operation = store.find(connection, operations.KIND, name)
        if operation is None:
            # The service finds an operation by its id under the location too, whatever resource it belongs to.
            operation = _anywhere(connection, request)
        if operation is None:
            raise ApiError("NOT_FOUND", f"Operation {name} is not found.")
        return operation

    return request.emulator.store.read(work)


def _shown(request: ApiRequest, operation: dict[str, Any]) -> dict[str, Any]:
    # SDKs of either version poll below `/ui/`, and decode the type of the version that they have started it with.
    version = request.fields["version"]
    return operation if version == "ui" else long_running.shown(operation, version)


def _anywhere(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any] | None:
    if "collection" in request.fields:
        return None
    where = scope.resolve(connection, request.fields)
    ending = f"/operations/{request.fields['operation']}"
    found = (body for name, body in store.scan(connection, operations.KIND, f"{where.name}/") if name.endswith(ending))
    return next(found, None)


async def get(request: ApiRequest) -> Response:
    """Return an operation as it stands."""
    return json_response(_shown(request, _get(request)))


async def wait(request: ApiRequest) -> Response:
    """Return an operation when it is done, or after a while as it stands."""
    given = request.query_params.get("timeout")
    seconds = min(float(given.removesuffix("s")), _MAX_WAIT_SECONDS) if given else _MAX_WAIT_SECONDS
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        operation = _get(request)
        if operation.get("done") or asyncio.get_running_loop().time() >= deadline:
            return json_response(_shown(request, operation))
        await asyncio.sleep(_WAIT_POLL_SECONDS)


async def list_operations(request: ApiRequest) -> Response:
    """Return one page of the operations of a location or of one resource."""

    def work(connection: sqlite3.Connection) -> list[dict[str, Any]]:
        parent = scope.resolve(connection, request.fields).name
        if "collection" in request.fields:
            parent = f"{parent}/{request.fields['collection']}/{request.fields['resource']}"
        return [_shown(request, body) for _, body in store.scan(connection, operations.KIND, f"{parent}/")]

    found = request.emulator.store.read(work)
    return collections.page(request, "operations", found)


async def cancel(request: ApiRequest) -> Response:
    """Accept the wish; like the service's, no operation here is obliged to follow it."""
    _get(request)
    return json_response({})


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
