"""Methods on objects except uploads (https://cloud.google.com/storage/docs/json_api/v1/objects)."""

from __future__ import annotations

import sqlite3
from typing import Any

from starlette.responses import Response

from runner.emulator.errors import ApiError
from runner.emulator.routing import ApiRequest
from runner.emulator.storage import (
    access_lists,
    buckets,
    customer_keys,
    downloads,
    listing,
    object_views,
    objects,
    protection,
    records,
)
from runner.emulator.storage.faults import NotModifiedError, bad_request
from runner.emulator.storage.metadata import changed, checked
from runner.emulator.storage.parameters import boolean, integer
from runner.emulator.storage.preconditions import Preconditions
from runner.emulator.storage.records import StoredObject
from runner.emulator.storage.replies import reply

Json = dict[str, Any]


async def get(request: ApiRequest) -> Response:
    """Return an object's resource, or its data with `alt=media`."""
    if request.query_params.get("alt") == "media":
        return await download(request)
    try:
        return object_views.answer(request, load(request, _conditions(request)))
    except NotModifiedError:
        return Response(status_code=304)


async def download(request: ApiRequest) -> Response:
    """Return an object's data, for `/download/storage/v1/…`. Errors are plain text."""
    try:
        return downloads.open_media(
            request.emulator,
            lambda: load(request, _conditions(request), data=True),
            request.headers,
            body=request.method == "GET",
        )
    except NotModifiedError:
        return Response(status_code=304)
    except ApiError as error:
        return Response(error.message, error.http, error.headers, "text/html; charset=UTF-8")


def _conditions(request: ApiRequest) -> Preconditions:
    return Preconditions.of(request.query_params, request.headers)


def load(request: ApiRequest, preconditions: Preconditions, *, data: bool = False) -> StoredObject:
    """Return the requested version, with its data if its key is the right one.

    Raises ApiError NOT_FOUND, 400, 412; NotModifiedError.
    """
    key = customer_keys.given(request.headers)
    bucket, name = request.fields["bucket"], request.fields["object"]
    parameters = request.query_params
    generation = integer(parameters, "generation")
    soft = boolean(parameters, "softDeleted")

    def read(connection: sqlite3.Connection) -> StoredObject:
        record = records.require(connection, bucket, name, generation, data=data, soft=soft)
        preconditions.check(record, reading=True)
        if data:
            customer_keys.check(record, key)
        return record

    return request.emulator.store.read(read)


async def list_objects(request: ApiRequest) -> Response:
    """List objects."""
    query = listing.Query.of(request.query_params)
    return reply(
        request, request.emulator.store.read(lambda connection: listing.list_objects(connection, request, query))
    )


async def patch(request: ApiRequest) -> Response:
    """Merge metadata; null deletes a field."""
    return await _change(request, replace=False)


async def update(request: ApiRequest) -> Response:
    """Replace all metadata that a client can set."""
    return await _change(request, replace=True)


async def _change(request: ApiRequest, *, replace: bool) -> Response:
    bucket, name = request.fields["bucket"], request.fields["object"]
    parameters = request.query_params
    generation, preconditions = integer(parameters, "generation"), _conditions(request)
    given = checked(await request.read_json())
    if parameters.get("predefinedAcl"):
        given["acl"] = parameters["predefinedAcl"]
    override = boolean(parameters, "overrideUnlockedRetention")
    now = records.microseconds(request.emulator.clock.now())

    def write(connection: sqlite3.Connection) -> StoredObject:
        home = buckets.require(connection, bucket)
        record = records.require(connection, bucket, name, generation)
        preconditions.check(record)
        before = record.settings
        after = changed(before, given, replace=replace)
        if given.get("acl") is not None:
            after["acl"] = access_lists.resolved(connection, bucket, home, given["acl"])
        if before.get("eventBasedHold") and not after.get("eventBasedHold"):
            after[protection.RELEASED] = now
        protection.check_retention(home, before, after, now, override=override)
        record.home = home
        return objects.change(connection, record, after, now)

    return object_views.answer(request, await request.emulator.store.write(write), full=True)


async def delete(request: ApiRequest) -> Response:
    """Delete the live version, or one generation."""
    bucket, name = request.fields["bucket"], request.fields["object"]
    generation = integer(request.query_params, "generation")
    await objects.delete(request.emulator, bucket, name, generation, _conditions(request))
    return Response(status_code=204)


async def restore(request: ApiRequest) -> Response:
    """Restore a soft-deleted generation as a new live generation."""
    bucket, name = request.fields["bucket"], request.fields["object"]
    generation = integer(request.query_params, "generation")
    if generation is None:
        raise bad_request("Required parameter: generation", "required")
    preconditions = _conditions(request)
    now = records.microseconds(request.emulator.clock.now())

    def write(connection: sqlite3.Connection) -> tuple[StoredObject, list[str]]:
        record = records.require(connection, bucket, name, generation, data=True, soft=True)
        return objects.add(connection, bucket, name, objects.payload_of(record), record.settings, preconditions, now)

    return object_views.answer(request, await objects.commit(request.emulator, write))
