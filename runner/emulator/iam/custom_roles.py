"""Custom roles of a project. A deleted role keeps its ID and can be restored."""

from __future__ import annotations

import re
import sqlite3

from starlette.responses import Response

from runner.emulator import paging, projects, store
from runner.emulator.errors import invalid
from runner.emulator.iam import policies
from runner.emulator.iam.roles import ROLES
from runner.emulator.resources import Document, listing, patched, reading, text, writing
from runner.emulator.routing import ApiRequest, json_response

KIND = policies.CUSTOM_ROLE
_ID = re.compile(r"[a-zA-Z0-9_.]{3,64}\Z")
_PERMISSION = re.compile(r"[a-z][a-zA-Z0-9]*\.[a-zA-Z0-9]+(\.[a-zA-Z0-9]+)?\Z")


def _name(connection: sqlite3.Connection, request: ApiRequest) -> str:
    return f"projects/{projects.resolve(connection, request.fields['project']).id}/roles/{request.fields['role']}"


def _get(connection: sqlite3.Connection, request: ApiRequest) -> Document:
    name = _name(connection, request)
    return store.get(connection, KIND, name, missing=f"The role named {name} was not found.")


get = reading(_get)


def _check(body: Document) -> None:
    text(body, "title", maximum=100)
    text(body, "description", maximum=300)
    for permission in body.get("includedPermissions", []):
        if not _PERMISSION.match(str(permission)):
            raise invalid(f"Permission {permission} is not valid.")


@writing
def create(connection: sqlite3.Connection, request: ApiRequest) -> Document:
    """Create a role."""
    body = request.document
    role, id_ = body.get("role") or {}, str(body.get("roleId", ""))
    if not _ID.match(id_):
        raise invalid(f"The role_id {id_!r} is malformed.")
    _check(role)
    name = f"projects/{projects.resolve(connection, request.fields['project']).id}/roles/{id_}"
    taken = f"A role named {id_} in {name.rsplit('/', 2)[0]} already exists."
    return store.insert(connection, KIND, name, {**role, "name": name, "etag": policies.new_etag()}, taken=taken)


@listing("roles")
def list_roles(connection: sqlite3.Connection, request: ApiRequest) -> list[Document]:
    """List a project's roles, without the deleted ones."""
    prefix = f"projects/{projects.resolve(connection, request.fields['project']).id}/roles/"
    return [body for _, body in store.scan(connection, KIND, prefix) if not body.get("deleted")]


async def query_testable(request: ApiRequest) -> Response:
    """List the permissions that a role can have: those of all predefined roles that the emulator knows.

    `gcloud iam roles create` requests them first.
    """
    body = await request.read_json()
    items = [{"name": name, "stage": "GA"} for name in sorted(frozenset[str]().union(*ROLES.values()))]
    size, token = body.get("pageSize"), body.get("pageToken")
    part, then = paging.page(items, None if size is None else str(size), token, default=100)
    return json_response({"permissions": part, **({"nextPageToken": then} if then else {})})


@writing
def patch(connection: sqlite3.Connection, request: ApiRequest) -> Document:
    """Change the fields in `updateMask`."""
    _check(request.document)
    stored = _get(connection, request)
    changed = patched(request, stored)
    changed |= {"name": stored["name"], "etag": policies.new_etag()}
    return store.put(connection, KIND, stored["name"], changed)


@writing
def delete(connection: sqlite3.Connection, request: ApiRequest) -> Document:
    """Delete a role, which then grants nothing; its ID remains taken."""
    return _marked(connection, request, {"deleted": True})


@writing
def undelete(connection: sqlite3.Connection, request: ApiRequest) -> Document:
    """Restore a role."""
    return _marked(connection, request, {})


def _marked(connection: sqlite3.Connection, request: ApiRequest, mark: Document) -> Document:
    stored = {**_get(connection, request), "etag": policies.new_etag()}
    stored.pop("deleted", None)
    return store.put(connection, KIND, stored["name"], {**stored, **mark})
