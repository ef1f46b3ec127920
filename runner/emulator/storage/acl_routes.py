"""Methods for access control lists: of buckets, of objects, and for new objects."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from runner.emulator.errors import ApiError
from runner.emulator.routing import ApiRequest, Handler
from runner.emulator.storage import access_lists, buckets, objects, records
from runner.emulator.storage.access_lists import BUCKET_ROLES, OBJECT_ROLES, Entry
from runner.emulator.storage.faults import bad_request
from runner.emulator.storage.parameters import integer
from runner.emulator.storage.replies import reading, writing

Json = dict[str, Any]


class Lists:
    """The lists of buckets, with methods that the other two kinds override."""

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
        """Return an entry in the API's format."""
        return bucket_entry(request.base, request.fields["bucket"], entry)


class DefaultLists(Lists):
    """The lists of buckets for new objects."""

    kind = "objectAccessControl"
    roles = OBJECT_ROLES

    def load(self, connection: sqlite3.Connection, request: ApiRequest) -> list[Entry]:
        """Return the entries. Raises ApiError NOT_FOUND."""
        return access_lists.of_new_objects(connection, request.fields["bucket"])

    def save(self, connection: sqlite3.Connection, request: ApiRequest, entries: list[Entry], now: int) -> None:
        """Replace them."""
        name = request.fields["bucket"]
        buckets.update(connection, name, {**buckets.require(connection, name), "defaultObjectAcl": entries}, now)

    def shown(self, connection: sqlite3.Connection, request: ApiRequest, entry: Entry) -> Json:
        """Return an entry in the API's format."""
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
        """Replace them, which increases the object's metageneration."""
        record = _record(connection, request)
        objects.change(connection, record, {**record.settings, "acl": entries}, now)

    def shown(self, connection: sqlite3.Connection, request: ApiRequest, entry: Entry) -> Json:
        """Return an entry in the API's format."""
        return object_entry(request.base, _record(connection, request), entry)


def bucket_entry(base: str, bucket: str, entry: Entry) -> Json:
    """Return an entry of a bucket's list in the API's format."""
    link = f"{base}/storage/v1/b/{bucket}/acl/{quote(entry['entity'])}"
    return access_lists.resource("bucketAccessControl", entry, link, bucket=bucket)


def default_entry(entry: Entry) -> Json:
    """Return an entry of the list for new objects in the API's format."""
    shown = access_lists.resource("objectAccessControl", entry, "")
    return {key: value for key, value in shown.items() if key not in ("selfLink", "id")}


def object_entry(base: str, record: records.StoredObject, entry: Entry) -> Json:
    """Return an entry of an object's list in the API's format."""
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
    return records.require(connection, bucket, name, integer(request.query_params, "generation"))


def _refuse_uniform(home: Json, message: str) -> None:
    if access_lists.is_uniform(home):
        raise bad_request(f"{message} {access_lists.MORE}")


def load(connection: sqlite3.Connection, request: ApiRequest, lists: Lists) -> list[Entry]:
    """Return the entries of a list. Raises ApiError NOT_FOUND, and 400 with uniform access."""
    _refuse_uniform(buckets.require(connection, request.fields["bucket"]), lists.read_refusal)
    return lists.load(connection, request)


def save(connection: sqlite3.Connection, request: ApiRequest, lists: Lists, given: Any, now: int) -> None:
    """Replace a list by entries, or by a predefined list's name. Raises ApiError NOT_FOUND, 400, 412."""
    home = buckets.get(connection, request.fields["bucket"])
    _refuse_uniform(home, lists.refusal)
    lists.save(connection, request, access_lists.given_entries(connection, home, given, lists.roles), now)


def listed(lists: Lists) -> Handler:
    """Return the handler of `list`."""

    @reading
    def handle(connection: sqlite3.Connection, request: ApiRequest) -> Json:
        """Return all entries."""
        items = [lists.shown(connection, request, entry) for entry in load(connection, request, lists)]
        return {"kind": f"storage#{lists.kind}s", "items": items}

    return handle


def got(lists: Lists) -> Handler:
    """Return the handler of `get`."""

    @reading
    def handle(connection: sqlite3.Connection, request: ApiRequest) -> Json:
        """Return the entry of one entity."""
        return lists.shown(connection, request, _entry(load(connection, request, lists), request))

    return handle


def inserted(lists: Lists) -> Handler:
    """Return the handler of `insert`, which replaces an entity's entry."""
    return _changed(lists, lambda entries, request: request.document)


def updated(lists: Lists) -> Handler:
    """Return the handler of `update` and of `patch`: an entity's entry has no other field than its role."""

    def change(entries: list[Entry], request: ApiRequest) -> Json:
        entity = request.fields["entity"]
        known = next((entry["role"] for entry in entries if entry["entity"] == entity), None)
        return {"entity": entity, "role": request.document.get("role", known)}

    return _changed(lists, change)


def _changed(lists: Lists, change: Callable[[list[Entry], ApiRequest], Json]) -> Handler:
    @writing
    def handle(connection: sqlite3.Connection, request: ApiRequest) -> Json:
        """Set the entry of one entity."""
        now = records.microseconds(request.emulator.clock.now())
        home = buckets.require(connection, request.fields["bucket"])
        _refuse_uniform(home, lists.refusal)
        entries = lists.load(connection, request)
        (entry,) = access_lists.checked(connection, home, [change(entries, request)], lists.roles)
        kept = [other for other in entries if other["entity"] != entry["entity"]]
        lists.save(connection, request, [*kept, entry], now)
        return lists.shown(connection, request, entry)

    return handle


def deleted(lists: Lists) -> Handler:
    """Return the handler of `delete`."""

    @writing
    def handle(connection: sqlite3.Connection, request: ApiRequest) -> None:
        """Delete the entry of one entity."""
        now = records.microseconds(request.emulator.clock.now())
        _refuse_uniform(buckets.require(connection, request.fields["bucket"]), lists.refusal)
        entries = lists.load(connection, request)
        gone = _entry(entries, request)
        lists.save(connection, request, [entry for entry in entries if entry is not gone], now)

    return handle


def _entry(entries: list[Entry], request: ApiRequest) -> Entry:
    entity = request.fields["entity"]
    found = next((entry for entry in entries if entry["entity"] == entity), None)
    if found is None:
        raise ApiError("NOT_FOUND", f"Not Found: no entry of {entity} in the list.")
    return found
