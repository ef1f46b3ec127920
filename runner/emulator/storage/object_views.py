"""Objects in the JSON API's format, depending on the request and on the bucket."""

from __future__ import annotations

import sqlite3
from typing import Any

from starlette.responses import Response

from runner.emulator.routing import ApiRequest
from runner.emulator.storage import acl_routes, buckets, customer_keys, protection
from runner.emulator.storage.access_lists import is_uniform
from runner.emulator.storage.faults import bad_request
from runner.emulator.storage.records import StoredObject
from runner.emulator.storage.replies import reply

Json = dict[str, Any]

_HIDDEN = ("acl", protection.RELEASED)
"""Settings that are not returned unchanged to every caller."""


def is_full(request: ApiRequest, *, default: bool = False) -> bool:
    """Return whether a request includes access control lists. Raises ApiError 400."""
    wanted = request.query_params.get("projection")
    if wanted not in (None, "", "full", "noAcl"):
        raise bad_request(f"Invalid value for projection: '{wanted}'", "invalidParameter")
    return wanted == "full" or (default and not wanted)


def shown(connection: sqlite3.Connection, request: ApiRequest, record: StoredObject, home: Json, *, full: bool) -> Json:
    """Return the resource of a version; `home` contains its bucket's stored fields, `full` adds its list."""
    resource = _plain(request, record, home)
    if full and not is_uniform(home):
        entries = acl_routes.object_entries(connection, record)
        resource["acl"] = [acl_routes.object_entry(request.base, record, entry) for entry in entries]
    return resource


def _plain(request: ApiRequest, record: StoredObject, home: Json) -> Json:
    resource = record.resource(request.base)
    encryption = resource.get(customer_keys.FIELD)
    for key in _HIDDEN:
        resource.pop(key, None)
    until = protection.retained_until(home, record)
    if until is not None:
        resource["retentionExpirationTime"] = until.strftime("%Y-%m-%dT%H:%M:%S.") + f"{until.microsecond // 1000:03d}Z"
    if encryption and customer_keys.given(request.headers) != encryption:
        # The hashes reveal information about the data, which only the key's owner may see.
        resource = {key: value for key, value in resource.items() if key not in ("crc32c", "md5Hash")}
    return resource


def answer(request: ApiRequest, record: StoredObject, *, full: bool = False) -> Response:
    """Respond with a version's resource; `full` is the default form."""
    return reply(request, resource_of(request, record, full=full))


def resource_of(request: ApiRequest, record: StoredObject, *, full: bool = False) -> Json:
    """Return a version's resource in the requested form."""
    wants_list = is_full(request, default=full)
    if record.home is not None and not wants_list:
        return _plain(request, record, record.home)

    def read(connection: sqlite3.Connection) -> Json:
        home = record.home if record.home is not None else buckets.require(connection, record.bucket)
        return shown(connection, request, record, home, full=wants_list)

    return request.emulator.store.read(read)
