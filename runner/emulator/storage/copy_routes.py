"""Creating objects from objects: compose, rewrite and copy.

A copy shares the file of its source: data never changes after it was written, and a file is deleted with its last row.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from anyio import to_thread
from starlette.responses import Response

from runner.emulator.routing import ApiRequest
from runner.emulator.storage import blobs, buckets, customer_keys, naming, object_views, objects, protection, records
from runner.emulator.storage.faults import bad_request, condition_not_met
from runner.emulator.storage.metadata import checked
from runner.emulator.storage.parameters import integer
from runner.emulator.storage.preconditions import NONE, Preconditions
from runner.emulator.storage.records import StoredObject
from runner.emulator.storage.replies import reply

Json = dict[str, Any]

_MAX_SOURCES = 32
OWN = {
    "storageClass",
    "kmsKeyName",
    "temporaryHold",
    "eventBasedHold",
    "retention",
    "acl",
    customer_keys.FIELD,
    protection.RELEASED,
}
"""Settings that a copy does not take from its source."""


async def copy(request: ApiRequest) -> Response:
    """Copy an object with one request."""
    return object_views.answer(request, await _copy(request))


async def rewrite(request: ApiRequest) -> Response:
    """Copy an object; complete with the first call, because no data is moved."""
    record = await _copy(request)
    answer = {
        "kind": "storage#rewriteResponse",
        "totalBytesRewritten": str(record.size),
        "objectSize": str(record.size),
        "done": True,
        "resource": object_views.resource_of(request, record),
    }
    return reply(request, answer)


async def move(request: ApiRequest) -> Response:
    """Rename an object within its bucket, atomically."""
    fields, parameters = request.fields, request.query_params
    bucket, source_name, name = fields["bucket"], fields["object"], naming.check_object_name(fields["target"])
    generation = integer(parameters, "sourceGeneration")
    source_conditions = Preconditions.of(parameters, request.headers, "ifSource")
    preconditions = Preconditions.of(parameters, request.headers)
    now = records.microseconds(request.emulator.clock.now())

    def write(connection: sqlite3.Connection) -> tuple[StoredObject, list[str]]:
        source = records.require(connection, bucket, source_name, generation, data=True)
        if source_name == name:
            raise bad_request("The source and the destination of a move must differ.")
        source_conditions.check(source)
        payload = objects.payload_of(source)
        record, orphans = objects.add(connection, bucket, name, payload, source.settings, preconditions, now)
        return record, orphans + objects.remove(connection, bucket, source_name, generation, NONE, now)

    return object_views.answer(request, await objects.commit(request.emulator, write))


async def _copy(request: ApiRequest) -> StoredObject:
    fields, parameters = request.fields, request.query_params
    given = _given(request, await request.read_json())
    return await copied(
        request,
        source=(fields["bucket"], fields["object"]),
        generation=integer(parameters, "sourceGeneration"),
        source_conditions=Preconditions.of(parameters, request.headers, "ifSource"),
        target=(fields["target_bucket"], naming.check_object_name(fields["target"])),
        given=given,
        preconditions=Preconditions.of(parameters, request.headers),
        # Metadata in the request replaces that of the source; without any, it is copied.
        replace=not set(given) <= OWN,
    )


async def copied(
    request: ApiRequest,
    *,
    source: tuple[str, str],
    generation: int | None,
    source_conditions: Preconditions,
    target: tuple[str, str],
    given: Json,
    preconditions: Preconditions,
    replace: bool,
) -> StoredObject:
    """Create a copy of an object, and return it.

    Args:
        request: contains the keys of both objects.
        source: bucket and name.
        generation: generation of the source; None is the live one.
        source_conditions: preconditions of the source.
        target: bucket and name.
        given: settings of the copy.
        preconditions: preconditions of the target.
        replace: take no settings of the source except its type.

    Raises ApiError NOT_FOUND, 400, 412.
    """
    bucket, name = source
    key = customer_keys.given(request.headers, source=True)
    now = records.microseconds(request.emulator.clock.now())

    def write(connection: sqlite3.Connection) -> tuple[StoredObject, list[str]]:
        original = records.require(connection, bucket, name, generation, data=True)
        source_conditions.check(original)
        customer_keys.check(original, key)
        settings = dict(given)
        if not replace:
            # The storage class, the keys and the list are those of the destination.
            settings = {field: value for field, value in original.settings.items() if field not in OWN} | given
        settings.setdefault("contentType", original.settings.get("contentType"))
        payload = objects.payload_of(original)
        return objects.add(connection, *target, payload, settings, preconditions, now)

    return await objects.commit(request.emulator, write)


async def compose(request: ApiRequest) -> Response:
    """Join 1 to 32 objects of one bucket into one."""
    bucket, name = request.fields["bucket"], naming.check_object_name(request.fields["object"])
    body = await request.read_json()
    sources = body.get("sourceObjects")
    if not isinstance(sources, list) or not 1 <= len(sources) <= _MAX_SOURCES:
        count = len(sources) if isinstance(sources, list) else 0
        raise bad_request(f"The number of source components provided ({count}) must be from 1 to {_MAX_SOURCES}.")
    destination = body.get("destination") or {}
    if not isinstance(destination, dict):
        raise bad_request("Invalid value for destination: not an object.")
    settings = _given(request, destination)
    key = customer_keys.given(request.headers)
    preconditions = Preconditions.of(request.query_params, request.headers)

    def read(connection: sqlite3.Connection) -> list[StoredObject]:
        buckets.require(connection, bucket)
        preconditions.check(records.load(connection, bucket, name))
        found = [_source(connection, bucket, source) for source in sources]
        for part in found:
            customer_keys.check(part, key)
        return found

    emulator = request.emulator
    while True:
        parts = emulator.store.read(read)
        data = [part.blob if part.blob is not None else part.inline or b"" for part in parts]
        try:
            payload = await to_thread.run_sync(blobs.concatenate, emulator.blobs, data)
        except FileNotFoundError:
            if emulator.store.read(read) == parts:
                raise
            # A source was replaced meanwhile: read it again.
            continue
        break
    payload.components = sum(part.components or 1 for part in parts)
    now = records.microseconds(emulator.clock.now())
    doomed = parts if body.get("deleteSourceObjects") is True else []

    def write(connection: sqlite3.Connection) -> tuple[StoredObject, list[str]]:
        record, orphans = objects.add(connection, bucket, name, payload, settings, preconditions, now)
        for part in doomed:
            live = records.load(connection, bucket, part.name)
            if live is not None and live.generation == part.generation:  # not the one just made, nor a newer one
                orphans = orphans + objects.remove(connection, bucket, part.name, None, NONE, now)
        return record, orphans

    return object_views.answer(request, await objects.commit(emulator, write, payload))


def _given(request: ApiRequest, body: Json) -> Json:
    """Return the metadata of a request about the object that it creates from others. Raises ApiError 400."""
    given = {key: value for key, value in checked(body).items() if value is not None}
    if request.query_params.get("destinationPredefinedAcl"):
        given["acl"] = request.query_params["destinationPredefinedAcl"]
    if key := customer_keys.given(request.headers):
        given[customer_keys.FIELD] = key
    return given


def _source(connection: sqlite3.Connection, bucket: str, source: object) -> StoredObject:
    if not isinstance(source, dict) or not isinstance(source.get("name"), str):
        raise bad_request("Every source object needs a name.", "required")
    wanted = {} if source.get("generation") is None else {"generation": str(source["generation"])}
    record = records.require(connection, bucket, source["name"], integer(wanted, "generation"), data=True)
    conditions = source.get("objectPreconditions") or {}
    match = conditions.get("ifGenerationMatch") if isinstance(conditions, dict) else None
    if match is not None and str(match) != str(record.generation):
        raise condition_not_met()
    return record
