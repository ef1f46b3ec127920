"""`cloudfunctions.googleapis.com` v2: functions with their source in a bucket, and the policy of their invokers."""

from __future__ import annotations

import sqlite3
from typing import Any

from starlette.responses import Response

from runner.emulator import operations, store
from runner.emulator.errors import already_exists, invalid
from runner.emulator.iam import accounts, policies
from runner.emulator.iam.policy_methods import policy_methods
from runner.emulator.resources import Document, listing, patched, reading, writing
from runner.emulator.routing import ApiRequest, json_response
from runner.emulator.serverless.documents import check_id, done, parent
from runner.emulator.storage import objects

SERVICE, RUN = "cloudfunctions.googleapis.com", "run.googleapis.com"
KIND, POLICY_KIND = "function", "run-policy"
_TYPE = "type.googleapis.com/google.cloud.functions.v2.Function"
_DEFAULTS = {
    "availableCpu": "0.3333",
    "ingressSettings": "ALLOW_ALL",
    "maxInstanceRequestConcurrency": 1,
    "allTrafficOnLatestRevision": True,
}
"""Google's default values."""


def described(request: ApiRequest, stored: Document) -> Document:
    """Return a function for a response: its address depends on the emulator's current address."""
    _, project, _, location, _, name = stored["name"].split("/")
    url = f"{request.base.rstrip('/')}/functions/run/{project}/{location}/{name}"
    service = f"projects/{project}/locations/{location}/services/{name}"
    config = {**_DEFAULTS, **stored.get("serviceConfig", {}), "uri": url, "service": service}
    return {**stored, "url": url, "serviceConfig": config}


def _check(request: ApiRequest, connection: sqlite3.Connection, body: Document) -> None:
    build, service = body.get("buildConfig"), body.get("serviceConfig", {})
    if not isinstance(build, dict) or not build.get("runtime") or not build.get("entryPoint"):
        raise invalid("The fields 'build_config.runtime' and 'build_config.entry_point' are required.")
    source = (build.get("source") or {}).get("storageSource") or {}
    if not source.get("bucket") or not source.get("object"):
        raise invalid("The field 'build_config.source.storage_source' is required.")
    account = service.get("serviceAccountEmail")
    if account and not accounts.exists(connection, account):
        raise invalid(f"Service account {account} does not exist.")


async def create(request: ApiRequest) -> Response:
    """Create a function; its build is complete immediately."""
    body = await request.read_json()
    id_ = check_id(request.query_params.get("functionId", ""))
    source = ((body.get("buildConfig") or {}).get("source") or {}).get("storageSource") or {}
    if source.get("bucket") and source.get("object"):
        objects.read_bytes(request.emulator, source["bucket"], source["object"])  # refuses a missing one

    def work(connection: sqlite3.Connection) -> Document:
        above = parent(connection, request, SERVICE)
        _check(request, connection, body)
        name = f"{above}/functions/{id_}"
        if store.find(connection, KIND, name) is not None:
            raise already_exists(f"Could not create Cloud Run service {id_}. A Cloud Run service with this name exists")
        now = request.emulator.clock.timestamp()
        made = {**body, "name": name, "state": "ACTIVE", "environment": "GEN_2", "createTime": now, "updateTime": now}
        store.insert(connection, KIND, name, made)
        return done(connection, above, {"@type": _TYPE, **described(request, made)})

    return json_response(await request.emulator.store.write(work))


def _named(connection: sqlite3.Connection, request: ApiRequest) -> Document:
    return store.get(connection, KIND, f"{parent(connection, request, SERVICE)}/functions/{request.fields['function']}")


@reading
def get(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Return a function."""
    return described(request, _named(connection, request))


@listing("functions")
def list_functions(connection: sqlite3.Connection, request: ApiRequest) -> list[Document]:
    """List the functions of a location."""
    prefix = f"{parent(connection, request, SERVICE)}/functions/"
    return [described(request, body) for _, body in store.scan(connection, KIND, prefix)]


@writing
def patch(connection: sqlite3.Connection, request: ApiRequest) -> Document:
    """Change the fields in `updateMask`."""
    stored = _named(connection, request)
    changed = patched(request, stored)
    changed |= {"name": stored["name"], "state": "ACTIVE", "updateTime": request.emulator.clock.timestamp()}
    _check(request, connection, changed)
    store.put(connection, KIND, stored["name"], changed)
    return done(connection, stored["name"].rsplit("/", 2)[0], {"@type": _TYPE, **described(request, changed)})


@writing
def delete(connection: sqlite3.Connection, request: ApiRequest) -> Document:
    """Delete a function and its policy."""
    stored = _named(connection, request)
    store.remove(connection, KIND, stored["name"])
    above, _, name = stored["name"].rsplit("/", 2)
    if store.find(connection, POLICY_KIND, f"{above}/services/{name}") is not None:
        store.remove(connection, POLICY_KIND, f"{above}/services/{name}")
    empty: Document = {"@type": "type.googleapis.com/google.protobuf.Empty"}
    return done(connection, above, empty)


@reading
def get_operation(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Return an operation."""
    fields = request.fields
    name = f"projects/{fields['project']}/locations/{fields['location']}/operations/{fields['operation']}"
    return operations.get(connection, name)


def _service(connection: sqlite3.Connection, request: ApiRequest) -> str:
    """Return the name of the service that a function runs as. Raises ApiError NOT_FOUND."""
    above = parent(connection, request, RUN)
    store.get(connection, KIND, f"{above}/functions/{request.fields['function']}")
    return f"{above}/services/{request.fields['function']}"


def invokers(connection: sqlite3.Connection, service: str) -> Document:
    """Return the policy of a service's invokers."""
    return policies.stored(connection, POLICY_KIND, service)


POLICY = policy_methods(POLICY_KIND, _service)
"""The policy of a function's invokers."""
