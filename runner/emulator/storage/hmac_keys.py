"""HMAC keys of service accounts (https://cloud.google.com/storage/docs/authentication/hmackeys).

They sign requests of the XML API; `signatures` reads them.
"""

from __future__ import annotations

import base64
import re
import secrets
import sqlite3
from typing import Any

from runner.emulator import paging, projects, store
from runner.emulator.routing import ApiRequest
from runner.emulator.storage.faults import bad_request, condition_not_met
from runner.emulator.storage.parameters import boolean, count
from runner.emulator.storage.records import microseconds, timestamp
from runner.emulator.storage.replies import reading, writing

Json = dict[str, Any]

KIND = "hmac-key"
PREFIX = "GOOG1E"
"""Prefix of the access IDs of service accounts."""
_EMAIL = re.compile(r"[^@\s/]+@[a-z0-9.-]+\.gserviceaccount\.com\Z")
_STATES = ("ACTIVE", "INACTIVE")


def find(connection: sqlite3.Connection, access_id: str) -> Json | None:
    """Return a key with its secret; None if it does not exist or is not active."""
    key = store.find(connection, KIND, access_id)
    return key if key is not None and key["state"] == "ACTIVE" else None


@writing
def create(connection: sqlite3.Connection, request: ApiRequest) -> Json:
    """Create a key; its secret is returned only once."""
    email = request.query_params.get("serviceAccountEmail", "")
    if not _EMAIL.match(email):
        raise bad_request(f"Invalid value for serviceAccountEmail: '{email}'", "invalidParameter")
    now = timestamp(microseconds(request.emulator.clock.now()))
    access_id = PREFIX + base64.b32encode(secrets.token_bytes(35)).decode()[:55]
    secret = base64.b64encode(secrets.token_bytes(30)).decode()
    key = {
        "accessId": access_id,
        "projectId": projects.ensure(connection, request.fields["project"]).id,
        "serviceAccountEmail": email,
        "state": "ACTIVE",
        "timeCreated": now,
        "updated": now,
        "etag": _etag(),
        "secret": secret,
    }
    store.insert(connection, KIND, access_id, key)
    return {"kind": "storage#hmacKey", "metadata": _shown(request, key), "secret": secret}


@reading
def list_keys(connection: sqlite3.Connection, request: ApiRequest) -> Json:
    """List a project's keys, or those of one account with `serviceAccountEmail`."""
    parameters = request.query_params
    wanted, deleted = parameters.get("serviceAccountEmail"), boolean(parameters, "showDeletedKeys")
    project = projects.resolve(connection, request.fields["project"])
    found = [
        key
        for _, key in store.scan(connection, KIND)
        if key["projectId"] == project.id
        and wanted in (None, key["serviceAccountEmail"])
        and (deleted or key["state"] != "DELETED")
    ]
    keys, token = paging.page(found, count(parameters, "maxResults"), parameters.get("pageToken"), default=250)
    answer: Json = {"kind": "storage#hmacKeysMetadata"}
    answer |= {"items": [_shown(request, key) for key in keys]} if keys else {}
    return answer | ({"nextPageToken": token} if token else {})


@reading
def get(connection: sqlite3.Connection, request: ApiRequest) -> Json:
    """Return a key without its secret."""
    return _shown(request, _key(connection, request))


@writing
def update(connection: sqlite3.Connection, request: ApiRequest) -> Json:
    """Activate or deactivate a key."""
    body = request.document
    state = body.get("state")
    if state not in _STATES:
        raise bad_request(f"Invalid value for state: {state!r}", "invalid")
    key = _key(connection, request)
    if body.get("etag") not in (None, "", key["etag"]):
        raise condition_not_met()
    if key["state"] == "DELETED":
        raise bad_request("Cannot update a key in 'DELETED' state.", "invalid")
    now = timestamp(microseconds(request.emulator.clock.now()))
    changed = {**key, "state": state, "updated": now, "etag": _etag()}
    return _shown(request, store.put(connection, KIND, key["accessId"], changed))


@writing
def delete(connection: sqlite3.Connection, request: ApiRequest) -> None:
    """Delete an inactive key."""
    key = _key(connection, request)
    if key["state"] != "INACTIVE":
        raise bad_request(f"Cannot delete keys in '{key['state']}' state. key: {key['accessId']}", "invalid")
    store.put(connection, KIND, key["accessId"], {**key, "state": "DELETED", "secret": ""})


def _key(connection: sqlite3.Connection, request: ApiRequest) -> Json:
    project = projects.resolve(connection, request.fields["project"])
    key = store.get(connection, KIND, request.fields["key"])
    return key if key["projectId"] == project.id else store.get(connection, KIND, "")


def _shown(request: ApiRequest, key: Json) -> Json:
    shown = {name: value for name, value in key.items() if name != "secret"}
    path = f"projects/{key['projectId']}/hmacKeys/{key['accessId']}"
    link = f"{request.base}/storage/v1/{path}"
    return {
        "kind": "storage#hmacKeyMetadata",
        "id": f"{key['projectId']}/{key['accessId']}",
        "selfLink": link,
        **shown,
    }


def _etag() -> str:
    return base64.b64encode(secrets.token_bytes(6)).decode()
