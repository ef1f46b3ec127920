"""What a request announces about the object that it brings, in one request or in several."""

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
    """What a request says about the object it brings."""

    name: str
    settings: Json
    expected: Expected
    preconditions: Preconditions


def announced(request: ApiRequest, body: Json, content_type: str) -> Announced:
    """Join the metadata of the body with the query and the headers. Raises ApiError 400; 403 to who may not write."""
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
    # Here, since a condition of a policy may ask for the name, which only the body may tell.
    access.require_object(request, "storage.objects.create", name)
    return Announced(
        name=name,
        settings=settings,
        expected=Expected.of(body, request.headers),
        preconditions=Preconditions.of(parameters, request.headers),
    )


async def opened(request: ApiRequest, target: Announced, kind: str, **more: Any) -> str:
    """Store an upload of several requests, and return its id. `more` is kept with what was announced.

    Raises ApiError NOT_FOUND; 412 where it is resumable: an upload in parts has its conditions checked at its end.
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
