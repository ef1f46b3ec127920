"""Workload identity pools and their providers: external identities that can become principals.

Deletion is soft, as at Google: the name remains taken for 30 days, reads return `DELETED`, and `undelete` restores it.
"""

from __future__ import annotations

import re
import sqlite3
from datetime import timedelta
from typing import Any

from runner.emulator import operations, projects, store
from runner.emulator.errors import ApiError, already_exists, invalid, not_found
from runner.emulator.resources import exactly_one, listing, patched, reading, text, writing
from runner.emulator.routing import ApiRequest

POOL_KIND = "workload-identity-pool"
PROVIDER_KIND = "workload-identity-provider"
_RETENTION = timedelta(days=30)
_ID = re.compile(r"(?!gcp-)[a-z0-9-]{4,32}\Z")
_SOURCES = ("oidc", "aws", "saml", "x509")
_TYPE = "type.googleapis.com/google.iam.v1.WorkloadIdentityPool"


def _name(connection: sqlite3.Connection, request: ApiRequest, **more: str) -> str:
    """Return the full name of a request's pool or provider, or of a new one below its parent."""
    fields = {**request.fields, **more}
    project = projects.resolve(connection, fields["project"])
    name = f"projects/{project.number}/locations/global/workloadIdentityPools/{fields['pool']}"
    return f"{name}/providers/{fields['provider']}" if "provider" in fields else name


def _kind(name: str) -> str:
    return PROVIDER_KIND if "/providers/" in name else POOL_KIND


def _find(connection: sqlite3.Connection, request: ApiRequest, name: str) -> dict[str, Any] | None:
    """Return a document unless it was deleted more than 30 days ago."""
    document = store.find(connection, _kind(name), name)
    if document is not None and document.get("expireTime", "~") <= request.emulator.clock.timestamp():
        return None
    return document


def _get(connection: sqlite3.Connection, request: ApiRequest, name: str) -> dict[str, Any]:
    document = _find(connection, request, name)
    if document is None:
        raise not_found("Requested entity was not found.")
    return document


def _done(connection: sqlite3.Connection, name: str, document: dict[str, Any]) -> dict[str, Any]:
    """Store and return the finished operation of a change."""
    suffix = "Provider" if _kind(name) == PROVIDER_KIND else ""
    number = store.next_number(connection, "workload-identity-operation")
    return operations.create(
        connection,
        f"{name}/operations/{number}",
        metadata={"@type": f"{_TYPE}{suffix}OperationMetadata"},
        response={"@type": f"{_TYPE}{suffix}", **document},
    )


def _check_pool(body: dict[str, Any]) -> None:
    text(body, "displayName", maximum=32)
    text(body, "description", maximum=256)


def _check_provider(body: dict[str, Any]) -> None:
    _check_pool(body)
    text(body, "attributeCondition", maximum=4096)
    source = exactly_one(body, _SOURCES)
    mapping = body.get("attributeMapping", {})
    if source != "aws" and "google.subject" not in mapping:
        raise invalid("The attribute mapping must define google.subject.")
    if source == "oidc" and not body["oidc"].get("issuerUri", "").startswith("https://"):
        raise invalid("The issuer URI must be an https URI.")


def _create(connection: sqlite3.Connection, request: ApiRequest, query: str, field: str) -> dict[str, Any]:
    body = request.document
    new_id = request.query_params.get(query, "")
    if not _ID.match(new_id):
        raise invalid(f"{query} must have 4 to 32 lowercase letters, digits or hyphens, and not start with gcp-.")
    (_check_provider if field == "provider" else _check_pool)(body)
    projects.ensure(connection, request.fields["project"])
    if field == "provider" and _get(connection, request, _name(connection, request))["state"] != "ACTIVE":
        raise ApiError("FAILED_PRECONDITION", "The workload identity pool is deleted.")
    name = _name(connection, request, **{field: new_id})
    if _find(connection, request, name) is not None:
        raise already_exists("Requested entity already exists")
    document = {**body, "name": name, "state": "ACTIVE"}
    store.put(connection, _kind(name), name, document)
    return _done(connection, name, document)


@writing
def create_pool(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Create a pool."""
    return _create(connection, request, "workloadIdentityPoolId", "pool")


@writing
def create_provider(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Create a provider in a pool."""
    return _create(connection, request, "workloadIdentityPoolProviderId", "provider")


@reading
def get(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Return a pool or a provider, including a deleted one with its state."""
    return _get(connection, request, _name(connection, request))


def _all(connection: sqlite3.Connection, request: ApiRequest, kind: str, parent: str) -> list[dict[str, Any]]:
    deleted = request.query_params.get("showDeleted", "").lower() == "true"
    now = request.emulator.clock.timestamp()
    project = projects.resolve(connection, request.fields["project"])
    prefix = f"projects/{project.number}/locations/global/workloadIdentityPools/{parent}"
    return [
        body
        for _, body in store.scan(connection, kind, prefix)
        if body["state"] == "ACTIVE" or (deleted and body["expireTime"] > now)
    ]


@listing("workloadIdentityPools", default=50)
def list_pools(connection: sqlite3.Connection, request: ApiRequest) -> list[dict[str, Any]]:
    """List a project's pools."""
    return _all(connection, request, POOL_KIND, "")


@listing("workloadIdentityPoolProviders", default=50)
def list_providers(connection: sqlite3.Connection, request: ApiRequest) -> list[dict[str, Any]]:
    """List a pool's providers."""
    return _all(connection, request, PROVIDER_KIND, f"{request.fields['pool']}/providers/")


@writing
def patch(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Change the fields of a pool or a provider in `updateMask`."""
    name = _name(connection, request)
    stored = _get(connection, request, name)
    if stored["state"] != "ACTIVE":
        raise ApiError("FAILED_PRECONDITION", "The resource is deleted.")
    changed = patched(request, stored, mask_required=True)
    changed |= {key: stored[key] for key in ("name", "state")}
    (_check_provider if "provider" in request.fields else _check_pool)(changed)
    store.put(connection, _kind(name), name, changed)
    return _done(connection, name, changed)


@writing
def delete(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Mark a pool or a provider as deleted; it is removed after 30 days."""
    name = _name(connection, request)
    document = _get(connection, request, name)
    if document["state"] != "ACTIVE":
        raise ApiError("FAILED_PRECONDITION", "The resource is deleted already.")
    expires = request.emulator.clock.now() + _RETENTION
    document |= {"state": "DELETED", "expireTime": expires.strftime("%Y-%m-%dT%H:%M:%S.%fZ")}
    store.put(connection, _kind(name), name, document)
    return _done(connection, name, document)


@writing
def undelete(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Restore a pool or a provider that was deleted in the last 30 days."""
    name = _name(connection, request)
    document = _get(connection, request, name)
    if document["state"] == "ACTIVE":
        raise ApiError("FAILED_PRECONDITION", "The resource is not deleted.")
    del document["expireTime"]
    document["state"] = "ACTIVE"
    store.put(connection, _kind(name), name, document)
    return _done(connection, name, document)


@reading
def list_attestation_rules(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """List the attestation rules of a pool: there are none, because only managed identities have them."""
    _get(connection, request, _name(connection, request))
    return {}


@reading
def get_operation(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Return an operation of a pool or a provider."""
    return operations.get(connection, f"{_name(connection, request)}/operations/{request.fields['operation']}")
