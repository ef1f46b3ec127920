"""One version of one object: its row, and its JSON resource."""

from __future__ import annotations

import base64
import functools
import json
import sqlite3
from dataclasses import dataclass, field
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any
from urllib.parse import quote

from runner.emulator.storage.faults import no_such_bucket, no_such_object
from runner.emulator.store import Store

_COLUMNS = (
    "bucket, name, generation, metageneration, state, size, crc32c, md5, components,"
    " created, updated, deleted, expires, body, blob"
)
_WRITTEN = (*_COLUMNS.split(", "), "inline")
_INSERT = f"INSERT INTO storage_objects ({', '.join(_WRITTEN)}) VALUES ({', '.join('?' * len(_WRITTEN))})"  # noqa: S608
_values = attrgetter(*_WRITTEN)
_parse = json.JSONDecoder().raw_decode
"""Parses JSON that was written here in less time than `json.loads`, which detects encodings and white space."""
_READ = f"id, {_COLUMNS}"
_WITH_DATA = f"{_READ}, inline"


@dataclass(slots=True)
class StoredObject:
    """A row of `storage_objects`; times are microseconds since 1970, `body` is JSON of the fields of the client."""

    id: int
    bucket: str
    name: str
    generation: int
    metageneration: int
    state: str
    size: int
    crc32c: int
    md5: bytes | None
    components: int | None
    created: int
    updated: int
    deleted: int | None
    expires: int | None
    body: str
    blob: str | None
    inline: bytes | None = None
    """Only loaded on request; also None if the data is in a file."""
    home: dict[str, Any] | None = field(default=None, compare=False, repr=False)
    """Stored fields of the bucket, if they were available when the version was created."""

    @property
    def settings(self) -> dict[str, Any]:
        """Return the fields that a client sets: contentType, metadata and so on."""
        fields: dict[str, Any] = _parse(self.body)[0]
        return fields

    @property
    def etag(self) -> str:
        """Return the entity tag, which changes with the data and with the metadata."""
        return _etag(self.generation, self.metageneration)

    @property
    def tag(self) -> str:
        """Return the entity tag of the XML API: the MD5 in hexadecimal if there is one."""
        return self.etag if self.md5 is None else self.md5.hex()

    @property
    def etags(self) -> tuple[str, ...]:
        """Return the entity tags of the JSON and the XML API, which conditions can contain for this version."""
        return (self.etag, self.tag)

    def resource(self, base: str = "") -> dict[str, Any]:
        """Return the object resource of the JSON API, with links that start with `base`."""
        path = f"storage/v1/b/{self.bucket}/o/{quote(self.name, safe='')}"
        resource: dict[str, Any] = {
            "kind": "storage#object",
            "id": f"{self.bucket}/{self.name}/{self.generation}",
            "selfLink": f"{base}/{path}",
            "mediaLink": f"{base}/download/{path}?generation={self.generation}&alt=media",
            "name": self.name,
            "bucket": self.bucket,
            "generation": str(self.generation),
            "metageneration": str(self.metageneration),
        }
        resource |= self.settings
        resource |= {"size": str(self.size), "crc32c": encode_crc32c(self.crc32c), "etag": self.etag}
        if self.md5 is not None:
            resource["md5Hash"] = base64.b64encode(self.md5).decode()
        if self.components is not None:
            resource["componentCount"] = self.components
        created = timestamp(self.created)
        updated = created if self.updated == self.created else timestamp(self.updated)
        resource |= {"timeCreated": created, "updated": updated}
        resource |= {"timeStorageClassUpdated": created, "timeFinalized": created}
        if self.deleted is not None:
            resource["softDeleteTime" if self.state == "soft" else "timeDeleted"] = timestamp(self.deleted)
        if self.expires is not None:
            resource["hardDeleteTime"] = timestamp(self.expires)
        return resource


def microseconds(moment: datetime) -> int:
    """Return microseconds since 1970."""
    return int(moment.timestamp()) * 1_000_000 + moment.microsecond


def timestamp(value: int) -> str:
    """Return RFC 3339 with milliseconds, as in Storage's times."""
    seconds, rest = divmod(value, 1_000_000)
    return f"{_to_the_second(seconds)}.{rest // 1000:03d}Z"


@functools.lru_cache(64)
def _to_the_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def encode_crc32c(value: int) -> str:
    """Return a checksum as in the API: base64 of the big-endian number."""
    return base64.b64encode(value.to_bytes(4, "big")).decode()


@functools.lru_cache(4096)
def _etag(generation: int, metageneration: int) -> str:
    packed = b"\x08" + varint(generation) + b"\x10" + varint(metageneration)
    return base64.b64encode(packed).decode()


def varint(value: int) -> bytes:
    """Return a number in the variable length of protocol buffers, which is used in entity tags."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def load(
    connection: sqlite3.Connection,
    bucket: str,
    name: str,
    generation: int | None = None,
    *,
    data: bool = False,
    soft: bool = False,
) -> StoredObject | None:
    """Return the live version, or one generation (soft-deleted ones only if `soft`), or None.

    `data` also loads inline data.
    """
    columns = _WITH_DATA if data else _READ
    if generation is None:
        condition, arguments = "state = 'live'", [bucket, name]
    else:
        condition = f"generation = ? AND state {'=' if soft else '!='} 'soft'"
        arguments = [bucket, name, str(generation)]
    row = connection.execute(
        f"SELECT {columns} FROM storage_objects WHERE bucket = ? AND name = ? AND {condition}",  # noqa: S608
        arguments,
    ).fetchone()
    return None if row is None else StoredObject(*row)


def require(
    connection: sqlite3.Connection,
    bucket: str,
    name: str,
    generation: int | None = None,
    *,
    data: bool = False,
    soft: bool = False,
) -> StoredObject:
    """Return the result of `load`. Raises ApiError NOT_FOUND if the object or the bucket does not exist."""
    record = load(connection, bucket, name, generation, data=data, soft=soft)
    if record is None:
        known = connection.execute("SELECT 1 FROM storage_buckets WHERE name = ?", (bucket,)).fetchone()
        raise no_such_object(bucket, name, generation) if known else no_such_bucket()
    return record


def insert(connection: sqlite3.Connection, record: StoredObject) -> None:
    """Write the row of a new version, and set the version's ID."""
    cursor = connection.execute(_INSERT, _values(record))
    record.id = cursor.lastrowid or 0


def is_gone(store: Store, record: StoredObject) -> bool:
    """Return whether a version that was loaded earlier has been deleted permanently with its file."""
    return not store.read(lambda connection: select(connection, "id = ?", (record.id,)))


def select(connection: sqlite3.Connection, condition: str, arguments: tuple[object, ...]) -> list[StoredObject]:
    """Return the versions that match an SQL condition of this package."""
    rows = connection.execute(f"SELECT {_READ} FROM storage_objects WHERE {condition}", arguments)  # noqa: S608
    return [StoredObject(*row) for row in rows]
