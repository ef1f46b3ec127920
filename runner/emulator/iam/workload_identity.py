"""Workload identity pools and their providers: who outside Google may become a principal here.

Deleting is soft, as Google's is: the name stays taken for 30 days, reads say `DELETED`, and `undelete` revives.
"""

from __future__ import annotations

import re
import sqlite3
from datetime import timedelta
from typing import Any

from starlette.responses import Response

from runner.emulator import operations, projects, store, update_mask
from runner.emulator.errors import ApiError, already_exists, invalid, not_found
from runner.emulator.resources import exactly_one, listed, read, text, write
from runner.emulator.routing import ApiRequest, json_response

POOL_KIND = "workload-identity-pool"
PROVIDER_KIND = "workload-identity-provider"
_RETENTION = timedelta(days=30)
_ID = re.compile(r"(?!gcp-)[a-z0-9-]{4,32}\Z")
_SOURCES = ("oidc", "aws", "saml", "x509")
_TYPE = "type.googleapis.com/google.iam.v1.WorkloadIdentityPool"


def _name(connection: sqlite3.Connection, request: ApiRequest, **more: str) -> str:
    """Return the full name of the pool or provider of a request, or of one to be made below its parent."""
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


async def _create(request: ApiRequest, query: str, field: str) -> Response:
    body = await request.read_json()
    new_id = request.query_params.get(query, "")
    if not _ID.match(new_id):
        raise invalid(f"{query} must have 4 to 32 lowercase letters, digits or hyphens, and not start with gcp-.")
    (_check_provider if field == "provider" else _check_pool)(body)

    def work(connection: sqlite3.Connection) -> dict[str, Any]:
        projects.ensure(connection, request.fields["project"])
        if field == "provider" and _get(connection, request, _name(connection, request))["state"] != "ACTIVE":
            raise ApiError("FAILED_PRECONDITION", "The workload identity pool is deleted.")
        name = _name(connection, request, **{field: new_id})
        if _find(connection, request, name) is not None:
            raise already_exists("Requested entity already exists")
        document = {**body, "name": name, "state": "ACTIVE"}
        store.put(connection, _kind(name), name, document)
        return _done(connection, name, document)

    return json_response(await write(request, work))


async def create_pool(request: ApiRequest) -> Response:
    """Make a pool."""
    return await _create(request, "workloadIdentityPoolId", "pool")


async def create_provider(request: ApiRequest) -> Response:
    """Make a provider in a pool."""
    return await _create(request, "workloadIdentityPoolProviderId", "provider")


async def get(request: ApiRequest) -> Response:
    """Return a pool or a provider; a deleted one too, with its state."""
    return json_response(read(request, lambda found: _get(found, request, _name(found, request))))


async def _list(request: ApiRequest, field: str, kind: str, parent: str) -> Response:
    deleted = request.query_params.get("showDeleted", "").lower() == "true"
    now = request.emulator.clock.timestamp()

    def work(connection: sqlite3.Connection) -> list[dict[str, Any]]:
        project = projects.resolve(connection, request.fields["project"])
        prefix = f"projects/{project.number}/locations/global/workloadIdentityPools/{parent}"
        return [
            body
            for _, body in store.scan(connection, kind, prefix)
            if body["state"] == "ACTIVE" or (deleted and body["expireTime"] > now)
        ]

    return listed(request, field, read(request, work), default=50)


async def list_pools(request: ApiRequest) -> Response:
    """List a project's pools."""
    return await _list(request, "workloadIdentityPools", POOL_KIND, "")


async def list_providers(request: ApiRequest) -> Response:
    """List a pool's providers."""
    return await _list(request, "workloadIdentityPoolProviders", PROVIDER_KIND, f"{request.fields['pool']}/providers/")


async def patch(request: ApiRequest) -> Response:
    """Change the fields of a pool or a provider that `updateMask` names."""
    provider = "provider" in request.fields
    body = await request.read_json()
    mask = request.query_params.get("updateMask")
    if not mask:
        raise invalid("The field 'update_mask' is required.")

    def work(connection: sqlite3.Connection) -> dict[str, Any]:
        name = _name(connection, request)
        stored = _get(connection, request, name)
        if stored["state"] != "ACTIVE":
            raise ApiError("FAILED_PRECONDITION", "The resource is deleted.")
        changed = update_mask.apply(stored, body, mask)
        changed |= {key: stored[key] for key in ("name", "state")}
        (_check_provider if provider else _check_pool)(changed)
        store.put(connection, _kind(name), name, changed)
        return _done(connection, name, changed)

    return json_response(await write(request, work))


async def delete(request: ApiRequest) -> Response:
    """Mark a pool or a provider deleted; it goes for good after 30 days."""

    def work(connection: sqlite3.Connection) -> dict[str, Any]:
        name = _name(connection, request)
        document = _get(connection, request, name)
        if document["state"] != "ACTIVE":
            raise ApiError("FAILED_PRECONDITION", "The resource is deleted already.")
        expires = request.emulator.clock.now() + _RETENTION
        document |= {"state": "DELETED", "expireTime": expires.strftime("%Y-%m-%dT%H:%M:%S.%fZ")}
        store.put(connection, _kind(name), name, document)
        return _done(connection, name, document)

    return json_response(await write(request, work))


async def undelete(request: ApiRequest) -> Response:
    """Revive a pool or a provider that was deleted in the last 30 days."""

    def work(connection: sqlite3.Connection) -> dict[str, Any]:
        name = _name(connection, request)
        document = _get(connection, request, name)
        if document["state"] == "ACTIVE":
            raise ApiError("FAILED_PRECONDITION", "The resource is not deleted.")
        del document["expireTime"]
        document["state"] = "ACTIVE"
        store.put(connection, _kind(name), name, document)
        return _done(connection, name, document)

    return json_response(await write(request, work))


async def list_attestation_rules(request: ApiRequest) -> Response:
    """List the attestation rules of a pool: there are none, since only managed identities have them."""
    read(request, lambda connection: _get(connection, request, _name(connection, request)))
    return json_response({})


async def get_operation(request: ApiRequest) -> Response:
    """Return an operation of a pool or a provider."""

    def work(connection: sqlite3.Connection) -> dict[str, Any]:
        return operations.get(connection, f"{_name(connection, request)}/operations/{request.fields['operation']}")

    return json_response(read(request, work))
