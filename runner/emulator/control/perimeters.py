"""`accesscontextmanager.googleapis.com`: access policies and the service perimeters of VPC Service Controls.

A policy belongs to an organization, and every caller can create one, because organizations have no members here.
Perimeters are stored but do not refuse requests.
"""

from __future__ import annotations

import re
import sqlite3
import uuid
from typing import Any

from runner.emulator import operations, projects, store
from runner.emulator.errors import already_exists, invalid
from runner.emulator.iam import policies
from runner.emulator.resources import children, listing, patched, reading, text, writing
from runner.emulator.routing import ApiRequest

POLICY = "access-policy"
PERIMETER = "service-perimeter"
_TYPES = "type.googleapis.com/google.identity.accesscontextmanager.v1."
_PARENT = re.compile(r"organizations/[0-9]+")
_ID = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,49}")
_PROJECT = re.compile(r"projects/([0-9]+)")
_NETWORK = re.compile(r"//compute\.googleapis\.com/projects/[^/]+/global/networks/[^/]+")
_REGULAR = "PERIMETER_TYPE_REGULAR"


def _find(connection: sqlite3.Connection, kind: str, name: str) -> dict[str, Any]:
    return store.get(connection, kind, name, missing=f"Resource '{name}' was not found.")


def _policy(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    return _find(connection, POLICY, f"accessPolicies/{request.fields['policy']}")


get_policy = reading(_policy)


def _perimeter(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    parent = _policy(connection, request)["name"]
    return _find(connection, PERIMETER, f"{parent}/servicePerimeters/{request.fields['perimeter']}")


get = reading(_perimeter)


def _done(connection: sqlite3.Connection, document: dict[str, Any], verb: str, kind: str) -> dict[str, Any]:
    return operations.create(
        connection,
        f"operations/{document['name']}/{verb}/{uuid.uuid4().int >> 80}",
        metadata={"@type": f"{_TYPES}AccessContextManagerOperationMetadata"},
        response={"@type": f"{_TYPES}{kind}", **document} if kind else None,
    )


def _check(connection: sqlite3.Connection, perimeter: dict[str, Any]) -> None:
    """Check a perimeter. Raises ApiError INVALID_ARGUMENT."""
    text(perimeter, "title", maximum=200, required=True)
    if perimeter.get("spec") and not perimeter.get("useExplicitDryRunSpec"):
        raise invalid("use_explicit_dry_run_spec must be set to true if the spec of a perimeter is set.")
    policy = perimeter["name"].partition("/servicePerimeters/")[0]
    for part in ("status", "spec"):
        resources = perimeter.get(part, {}).get("resources", [])
        if len(set(resources)) != len(resources):
            raise invalid(f"The resources of the {part} of {perimeter['name']} must be unique.")
        for resource in resources:
            _check_resource(connection, resource)
    if perimeter["perimeterType"] != _REGULAR:
        return
    mine = set(perimeter.get("status", {}).get("resources", []))
    for other in children(connection, PERIMETER, f"{policy}/servicePerimeters"):
        shared = mine & set(other.get("status", {}).get("resources", []))
        if other["name"] != perimeter["name"] and other["perimeterType"] == _REGULAR and shared:
            raise invalid(f"Resource {min(shared)} is in the perimeter {other['name']} already.")


def _check_resource(connection: sqlite3.Connection, resource: str) -> None:
    project = _PROJECT.fullmatch(resource)
    if project is not None:
        projects.resolve(connection, project[1])
    elif not _NETWORK.fullmatch(resource):
        raise invalid(f"Invalid resource {resource!r}: it must be projects/NUMBER or a network's full name.")


def _filled(value: Any) -> Any:
    """Return the service's form of it, without empty lists, texts or parts."""
    if not isinstance(value, dict):
        return value
    shown = {key: _filled(item) for key, item in value.items()}
    return {key: item for key, item in shown.items() if item not in ({}, [], "")}


@writing
def create_policy(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Create the access policy of an organization."""
    body = request.document
    if not _PARENT.fullmatch(text(body, "parent", maximum=100, required=True)):
        raise invalid("The parent of an access policy is organizations/NUMBER.")
    text(body, "title", maximum=200, required=True)
    name = f"accessPolicies/{100000000000 + store.next_number(connection, POLICY)}"
    document = {**body, "name": name, "etag": policies.new_etag()}
    return _done(connection, store.insert(connection, POLICY, name, document), "create", "AccessPolicy")


@listing("accessPolicies")
def list_policies(connection: sqlite3.Connection, request: ApiRequest) -> list[dict[str, Any]]:
    """List an organization's access policies."""
    parent = request.query_params.get("parent", "")
    return [one for one in children(connection, POLICY, "accessPolicies") if one["parent"] == parent]


@writing
def delete_policy(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Delete an access policy and its perimeters."""
    document = _policy(connection, request)
    for perimeter in children(connection, PERIMETER, f"{document['name']}/servicePerimeters"):
        store.remove(connection, PERIMETER, perimeter["name"])
    store.remove(connection, POLICY, document["name"])
    return operations.finish(connection, _done(connection, document, "delete", "")["name"])


@writing
def create(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Create a perimeter."""
    body = request.document
    parent = f"{_policy(connection, request)['name']}/servicePerimeters"
    name = text(body, "name", maximum=200, required=True)
    if not (name.startswith(f"{parent}/") and _ID.fullmatch(name.removeprefix(f"{parent}/"))):
        raise invalid(f"The name of a perimeter is {parent}/NAME, with a letter first.")
    if store.find(connection, PERIMETER, name) is not None:
        raise already_exists(f"Resource '{name}' already exists.")
    body["perimeterType"] = body.get("perimeterType") or _REGULAR
    _check(connection, body)
    document = _filled({**body, "etag": policies.new_etag()})
    return _done(connection, store.insert(connection, PERIMETER, name, document), "create", "ServicePerimeter")


@listing("servicePerimeters")
def list_perimeters(connection: sqlite3.Connection, request: ApiRequest) -> list[dict[str, Any]]:
    """List a policy's perimeters."""
    return children(connection, PERIMETER, f"{_policy(connection, request)['name']}/servicePerimeters")


@writing
def patch(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Change the fields in `updateMask`."""
    stored = _perimeter(connection, request)
    changed = patched(request, stored, mask_required=True)
    changed |= {"name": stored["name"], "perimeterType": stored["perimeterType"], "etag": policies.new_etag()}
    _check(connection, changed)
    document = store.put(connection, PERIMETER, stored["name"], _filled(changed))
    return _done(connection, document, "update", "ServicePerimeter")


@writing
def delete(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Delete a perimeter."""
    document = _perimeter(connection, request)
    store.remove(connection, PERIMETER, document["name"])
    return operations.finish(connection, _done(connection, document, "delete", "")["name"])


@reading
def get_operation(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Return an operation of this API."""
    name = f"operations/{request.fields['operation']}"
    return operations.get(connection, name)
