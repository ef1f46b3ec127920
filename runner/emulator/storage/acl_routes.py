"""Methods on access control lists: of buckets, of objects, and of the objects to come."""

from __future__ import annotations

import sqlite3
from typing import Any
from urllib.parse import quote

from starlette.responses import Response

from runner.emulator.errors import ApiError
from runner.emulator.routing import ApiRequest, Handler
from runner.emulator.storage import access_lists, buckets, objects, records
from runner.emulator.storage.access_lists import BUCKET_ROLES, OBJECT_ROLES, Entry
from runner.emulator.storage.faults import bad_request, no_such_object
from runner.emulator.storage.parameters import integer
from runner.emulator.storage.projection import reply

Json = dict[str, Any]


class Lists:
    """The lists of buckets, and what the other two kinds do differently."""

    kind = "bucketAccessControl"
    roles: tuple[str, ...] = BUCKET_ROLES
    refusal = "Cannot use ACL API to update bucket policy when uniform bucket-level access is enabled."
    read_refusal = "Cannot get legacy ACL for a bucket when uniform bucket-level access is enabled."

    def load(self, connection: sqlite3.Connection, request: ApiRequest) -> list[Entry]:
        """Return the entries. Raises ApiError NOT_FOUND."""
        return access_lists.of_bucket(connection, request.fields["bucket"])

    def save(self, connection: sqlite3.Connection, request: ApiRequest, entries: list[Entry], now: int) -> None:
        """Replace them."""
        access_lists.set_of_bucket(connection, request.fields["bucket"], entries)

    def shown(self, connection: sqlite3.Connection, request: ApiRequest, entry: Entry) -> Json:
        """Return an entry as the API shows it."""
        return bucket_entry(request.base, request.fields["bucket"], entry)


class DefaultLists(Lists):
    """The lists that buckets give to new objects."""

    kind = "objectAccessControl"
    roles = OBJECT_ROLES
    read_refusal = "Cannot get legacy ACL for a bucket when uniform bucket-level access is enabled."

    def load(self, connection: sqlite3.Connection, request: ApiRequest) -> list[Entry]:
        """Return the entries. Raises ApiError NOT_FOUND."""
        return access_lists.of_new_objects(connection, request.fields["bucket"])

    def save(self, connection: sqlite3.Connection, request: ApiRequest, entries: list[Entry], now: int) -> None:
        """Replace them."""
        name = request.fields["bucket"]
        buckets.update(connection, name, {**buckets.require(connection, name), "defaultObjectAcl": entries}, now)

    def shown(self, connection: sqlite3.Connection, request: ApiRequest, entry: Entry) -> Json:
        """Return an entry as the API shows it."""
        return default_entry(entry)


class ObjectLists(Lists):
    """The lists of objects."""

    kind = "objectAccessControl"
    roles = OBJECT_ROLES
    refusal = "Cannot insert legacy ACL for an object when uniform bucket-level access is enabled."
    read_refusal = "Cannot get legacy ACL for an object when uniform bucket-level access is enabled."

    def load(self, connection: sqlite3.Connection, request: ApiRequest) -> list[Entry]:
        """Return the entries. Raises ApiError NOT_FOUND."""
        return object_entries(connection, _record(connection, request))

    def save(self, connection: sqlite3.Connection, request: ApiRequest, entries: list[Entry], now: int) -> None:
        """Replace them, which counts the object's metageneration up."""
        record = _record(connection, request)
        objects.change(connection, record, {**record.settings, "acl": entries}, now)

    def shown(self, connection: sqlite3.Connection, request: ApiRequest, entry: Entry) -> Json:
        """Return an entry as the API shows it."""
        return object_entry(request.base, _record(connection, request), entry)


def bucket_entry(base: str, bucket: str, entry: Entry) -> Json:
    """Return an entry of a bucket's list as the API shows it."""
    link = f"{base}/storage/v1/b/{bucket}/acl/{quote(entry['entity'])}"
    return access_lists.resource("bucketAccessControl", entry, link, bucket=bucket)


def default_entry(entry: Entry) -> Json:
    """Return an entry of the list for new objects as the API shows it."""
    shown = access_lists.resource("objectAccessControl", entry, "")
    return {key: value for key, value in shown.items() if key not in ("selfLink", "id")}


def object_entry(base: str, record: records.StoredObject, entry: Entry) -> Json:
    """Return an entry of an object's list as the API shows it."""
    link = f"{base}/storage/v1/b/{record.bucket}/o/{quote(record.name, safe='')}/acl/{quote(entry['entity'])}"
    generation = str(record.generation)
    return access_lists.resource(
        "objectAccessControl", entry, link, bucket=record.bucket, object=record.name, generation=generation
    )


def object_entries(connection: sqlite3.Connection, record: records.StoredObject) -> list[Entry]:
    """Return the list of an object: its own, or that of the project."""
    entries: list[Entry] | None = record.settings.get("acl")
    if entries is not None:
        return entries
    return access_lists.predefined("projectPrivate", buckets.get(connection, record.bucket)["projectNumber"])


def _record(connection: sqlite3.Connection, request: ApiRequest) -> records.StoredObject:
    bucket, name = request.fields["bucket"], request.fields["object"]
    generation = integer(request.query_params, "generation")
    buckets.require(connection, bucket)
    record = records.load(connection, bucket, name, generation)
    if record is None:
        raise no_such_object(bucket, name, generation)
    return record


def _refuse_uniform(home: Json, message: str) -> None:
    if access_lists.is_uniform(home):
        raise bad_request(f"{message} {access_lists.MORE}")


def load(connection: sqlite3.Connection, request: ApiRequest, lists: Lists) -> list[Entry]:
    """Return the entries of a list. Raises ApiError NOT_FOUND, and 400 with uniform access."""
    _refuse_uniform(buckets.require(connection, request.fields["bucket"]), lists.read_refusal)
    return lists.load(connection, request)


def save(connection: sqlite3.Connection, request: ApiRequest, lists: Lists, given: Any, now: int) -> None:
    """Replace a list by entries, or a predefined one by its name. Raises ApiError NOT_FOUND, 400, 412."""
    home = buckets.get(connection, request.fields["bucket"])
    _refuse_uniform(home, lists.refusal)
    if isinstance(given, str):
        entries = access_lists.predefined(given, home["projectNumber"], for_bucket=lists.roles == BUCKET_ROLES)
        access_lists.refuse_public(home, [entry["entity"] for entry in entries])
    else:
        entries = access_lists.checked(connection, home, given, lists.roles)
    lists.save(connection, request, entries, now)


def listed(lists: Lists) -> Handler:
    """Return the handler of `list`."""

    async def handle(request: ApiRequest) -> Response:
        """Return all entries."""

        def read(connection: sqlite3.Connection) -> list[Json]:
            return [lists.shown(connection, request, entry) for entry in load(connection, request, lists)]

        return reply(request, {"kind": f"storage#{lists.kind}s", "items": request.emulator.store.read(read)})

    return handle


def got(lists: Lists) -> Handler:
    """Return the handler of `get`."""

    async def handle(request: ApiRequest) -> Response:
        """Return the entry of one entity."""

        def read(connection: sqlite3.Connection) -> Json:
            return lists.shown(connection, request, _entry(load(connection, request, lists), request))

        return reply(request, request.emulator.store.read(read))

    return handle


def inserted(lists: Lists) -> Handler:
    """Return the handler of `insert`, which replaces an entity's entry."""
    return _changed(lists, lambda entries, request, body: body)


def updated(lists: Lists) -> Handler:
    """Return the handler of `update` and of `patch`: an entity's entry has nothing but its role."""

    def change(entries: list[Entry], request: ApiRequest, body: Json) -> Json:
        entity = request.fields["entity"]
        known = next((entry["role"] for entry in entries if entry["entity"] == entity), None)
        return {"entity": entity, "role": body.get("role", known)}

    return _changed(lists, change)


def _changed(lists: Lists, change: Any) -> Handler:
    async def handle(request: ApiRequest) -> Response:
        """Set the entry of one entity."""
        body = await request.read_json()
        now = records.microseconds(request.emulator.clock.now())

        def write(connection: sqlite3.Connection) -> Json:
            home = buckets.require(connection, request.fields["bucket"])
            _refuse_uniform(home, lists.refusal)
            entries = lists.load(connection, request)
            (entry,) = access_lists.checked(connection, home, [change(entries, request, body)], lists.roles)
            kept = [other for other in entries if other["entity"] != entry["entity"]]
            lists.save(connection, request, [*kept, entry], now)
            return lists.shown(connection, request, entry)

        return reply(request, await request.emulator.store.write(write))

    return handle


def deleted(lists: Lists) -> Handler:
    """Return the handler of `delete`."""

    async def handle(request: ApiRequest) -> Response:
        """Delete the entry of one entity."""
        now = records.microseconds(request.emulator.clock.now())

        def write(connection: sqlite3.Connection) -> None:
            _refuse_uniform(buckets.require(connection, request.fields["bucket"]), lists.refusal)
            entries = lists.load(connection, request)
            gone = _entry(entries, request)
            lists.save(connection, request, [entry for entry in entries if entry is not gone], now)

        await request.emulator.store.write(write)
        return Response(status_code=204)

    return handle


def _entry(entries: list[Entry], request: ApiRequest) -> Entry:
    entity = request.fields["entity"]
    found = next((entry for entry in entries if entry["entity"] == entity), None)
    if found is None:
        raise ApiError("NOT_FOUND", f"Not Found: no entry of {entity} in the list.")
    return found
