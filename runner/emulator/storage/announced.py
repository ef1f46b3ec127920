"""The metadata of a request about the object that it uploads, with one or several requests."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from typing import Any

from runner.emulator.routing import ApiRequest
from runner.emulator.storage import access, blobs, buckets, customer_keys, naming, records
from runner.emulator.storage.hashes import Expected
from runner.emulator.storage.metadata import checked
from runner.emulator.storage.preconditions import Preconditions

Json = dict[str, Any]


@dataclass(slots=True)
class Announced:
    """The metadata of a request about its object."""

    name: str
    settings: Json
    expected: Expected
    preconditions: Preconditions


def announced(request: ApiRequest, body: Json, content_type: str) -> Announced:
    """Join the metadata of the body with the query and the headers. Raises ApiError 400; 403 without permission."""
    parameters = request.query_params
    settings = checked(body)
    settings = {key: value for key, value in settings.items() if value is not None}
    settings.setdefault("contentType", content_type or "application/octet-stream")
    for key in ("contentEncoding", "kmsKeyName"):
        if parameters.get(key):
            settings[key] = parameters[key]
    if parameters.get("predefinedAcl"):
        settings["acl"] = parameters["predefinedAcl"]
    if key_of_customer := customer_keys.given(request.headers):
        settings[customer_keys.FIELD] = key_of_customer
    name = naming.check_object_name(parameters.get("name") or body.get("name"))
    # Checked here, because a condition of a policy may need the name, which only the body contains.
    access.require_object(request, "storage.objects.create", name)
    return Announced(
        name=name,
        settings=settings,
        expected=Expected.of(body, request.headers),
        preconditions=Preconditions.of(parameters, request.headers),
    )


async def opened(request: ApiRequest, target: Announced, kind: str, **more: Any) -> str:
    """Store an upload with several requests, and return its ID. `more` is stored with the metadata.

    Raises ApiError NOT_FOUND; 412 if it is resumable: conditions of an upload in parts are checked at its end.
    """
    bucket, upload = request.fields["bucket"], blobs.new_id()
    body = {"settings": target.settings, "preconditions": target.preconditions.to_json(), **more}
    now = records.microseconds(request.emulator.clock.now())

    def write(connection: sqlite3.Connection) -> None:
        buckets.require(connection, bucket)
        if kind == "resumable":
            target.preconditions.check(records.load(connection, bucket, target.name))
        connection.execute(
            "INSERT INTO storage_uploads (id, kind, bucket, name, state, body, received, created, blob)"
            " VALUES (?, ?, ?, ?, 'open', ?, 0, ?, ?)",
            (upload, kind, bucket, target.name, json.dumps(body, ensure_ascii=False), now, blobs.new_id()),
        )

    await request.emulator.store.write(write)
    return upload
