"""Operations on objects for the other services of the emulator and for the handlers.

Everything that changes rows runs in the writer thread, so a check and the change after it are one step.
"""

from __future__ import annotations

import base64
import json
import shutil
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from anyio import to_thread

from runner.emulator.context import Emulator
from runner.emulator.storage import access_lists, blobs, buckets, naming, protection, records
from runner.emulator.storage.blobs import Payload
from runner.emulator.storage.hashes import Expected
from runner.emulator.storage.preconditions import NONE, Preconditions
from runner.emulator.storage.records import StoredObject

Json = dict[str, Any]
T = TypeVar("T")

_generation_lock = threading.Lock()
_last_generation = 0


def _new_generation(now: int) -> int:
    """Return the time in microseconds, or one more than the last value, because generations only increase."""
    global _last_generation
    with _generation_lock:
        _last_generation = max(now, _last_generation + 1)
        return _last_generation


# For the other services ---------------------------------------------------------------------------------------------


def find(connection: sqlite3.Connection, bucket: str, name: str, *, base: str = "") -> Json | None:
    """Return the live object's resource, or None."""
    record = records.load(connection, bucket, name)
    return None if record is None else record.resource(base)


def list_names(connection: sqlite3.Connection, bucket: str, prefix: str = "") -> list[str]:
    """Return the names of the live objects that start with `prefix`, in the service's order (bytes of UTF-8).

    Raises ApiError NOT_FOUND if the bucket does not exist.
    """
    buckets.require(connection, bucket)
    condition, arguments = prefix_condition(bucket, prefix)
    rows = connection.execute(
        f"SELECT name FROM storage_objects WHERE {condition} AND state = 'live' ORDER BY name",  # noqa: S608
        arguments,
    )
    return [row[0] for row in rows]


def materialize(emulator: Emulator, bucket: str, name: str, target: Path) -> Json:
    """Copy the live object's bytes into the file `target`; return the object's resource. Blocks.

    A copy, not a link, because a change of the target must not change the object. Raises ApiError NOT_FOUND.
    """

    def copy(record: StoredObject) -> Json:
        if record.blob is None:
            target.write_bytes(record.inline or b"")
        else:
            shutil.copyfile(emulator.blobs / record.blob, target)
        return record.resource()

    return _with_data(emulator, bucket, name, copy)


def read_bytes(emulator: Emulator, bucket: str, name: str) -> bytes:
    """Return the live object's bytes. Raises ApiError NOT_FOUND."""

    def read(record: StoredObject) -> bytes:
        return (record.inline or b"") if record.blob is None else (emulator.blobs / record.blob).read_bytes()

    return _with_data(emulator, bucket, name, read)


def _with_data(emulator: Emulator, bucket: str, name: str, use: Callable[[StoredObject], T]) -> T:
    """Call `use` with the live version, and again if its file was deleted because the object was replaced meanwhile."""

    def load(connection: sqlite3.Connection) -> StoredObject:
        return records.require(connection, bucket, name, data=True)

    while True:
        record = emulator.store.read(load)
        try:
            return use(record)
        except FileNotFoundError:
            if not records.is_gone(emulator.store, record):
                raise


async def put_file(
    emulator: Emulator, bucket: str, name: str, source: Path, content_type: str = "application/octet-stream"
) -> Json:
    """Store a copy of a file as an object, replacing a live one; return the resource. Raises ApiError NOT_FOUND."""
    payload = await to_thread.run_sync(blobs.store_file, emulator.blobs, source)
    return (await insert(emulator, bucket, name, payload, {"contentType": content_type})).resource()


async def put_bytes(
    emulator: Emulator, bucket: str, name: str, data: bytes, content_type: str = "application/octet-stream"
) -> Json:
    """Store bytes as an object, replacing a live one; return the resource. Raises ApiError NOT_FOUND."""
    writer = blobs.BlobWriter(emulator.blobs)
    await writer.write(data)
    payload = await writer.finish()
    return (await insert(emulator, bucket, name, payload, {"contentType": content_type})).resource()


# Changes of objects -------------------------------------------------------------------------------------------------


async def insert(
    emulator: Emulator,
    bucket: str,
    name: str,
    payload: Payload,
    settings: Json,
    preconditions: Preconditions = NONE,
    expected: Expected | None = None,
) -> StoredObject:
    """Make the payload the live object. If it is refused, its file is deleted.

    Raises ApiError NOT_FOUND (bucket), 400 (name, checksum), 412.
    """
    now = records.microseconds(emulator.clock.now())

    def write(connection: sqlite3.Connection) -> tuple[StoredObject, list[str]]:
        naming.check_object_name(name)
        if expected is not None:
            expected.check(payload)
        return add(connection, bucket, name, payload, settings, preconditions, now)

    return await commit(emulator, write, payload)


async def commit(
    emulator: Emulator,
    write: Callable[[sqlite3.Connection], tuple[StoredObject, list[str]]],
    payload: Payload | None = None,
) -> StoredObject:
    """Run a transaction that creates an object; delete the files that it returns with the object.

    If the transaction raises an error, the payload's own file is deleted, and the error is raised here.
    """
    try:
        record, orphans = await emulator.store.write(write)
    except Exception:
        if payload is not None and payload.blob is not None:
            blobs.unlink(emulator, [payload.blob])
        raise
    blobs.unlink(emulator, orphans)
    return record


async def delete(
    emulator: Emulator, bucket: str, name: str, generation: int | None = None, preconditions: Preconditions = NONE
) -> None:
    """Delete the live version, or one generation permanently. Raises ApiError NOT_FOUND, 412."""
    now = records.microseconds(emulator.clock.now())
    orphans = await emulator.store.write(
        lambda connection: remove(connection, bucket, name, generation, preconditions, now)
    )
    blobs.unlink(emulator, orphans)


def add(
    connection: sqlite3.Connection,
    bucket: str,
    name: str,
    payload: Payload,
    settings: Json,
    preconditions: Preconditions,
    now: int,
) -> tuple[StoredObject, list[str]]:
    """Insert a version in a transaction; return it and the files to delete after the commit.

    Raises the errors of `insert`.
    """
    home = buckets.require(connection, bucket)
    previous = records.load(connection, bucket, name)
    preconditions.check(previous)
    orphans = [] if previous is None else _retire(connection, home, previous, now)
    settings = {key: value for key, value in settings.items() if value is not None}
    settings.setdefault("storageClass", home.get("storageClass", "STANDARD"))
    key = home.get("encryption", {}).get("defaultKmsKeyName")
    if key and "kmsKeyName" not in settings:
        settings["kmsKeyName"] = f"{key}/cryptoKeyVersions/1"
    if home.get("defaultEventBasedHold"):
        settings.setdefault("eventBasedHold", True)
    if "acl" in settings:
        settings["acl"] = access_lists.resolved(connection, bucket, home, settings["acl"])
    elif "defaultObjectAcl" in home and not access_lists.is_uniform(home):
        settings["acl"] = home["defaultObjectAcl"]
    if "retention" in settings:
        protection.check_retention(home, {}, settings, now, override=False)
    record = StoredObject(
        id=0,
        bucket=bucket,
        name=name,
        generation=_new_generation(now),
        metageneration=1,
        state="live",
        size=payload.size,
        crc32c=payload.crc32c,
        md5=payload.md5,
        components=payload.components,
        created=now,
        updated=now,
        deleted=None,
        expires=None,
        body=json.dumps(settings, ensure_ascii=False, separators=(",", ":")),
        blob=payload.blob,
        inline=payload.inline,
        home=home,
    )
    records.insert(connection, record)
    record.inline = None
    return record, orphans


def remove(
    connection: sqlite3.Connection,
    bucket: str,
    name: str,
    generation: int | None,
    preconditions: Preconditions,
    now: int,
) -> list[str]:
    """Delete the live version, or one generation permanently, in a transaction; return the files to delete after it.

    Raises ApiError NOT_FOUND, 412.
    """
    home = buckets.require(connection, bucket)
    record = records.require(connection, bucket, name, generation)
    preconditions.check(record)
    return _retire(connection, home, record, now, for_good=generation is not None)


def _retire(
    connection: sqlite3.Connection,
    home: Json,
    record: StoredObject,
    now: int,
    *,
    for_good: bool = False,
) -> list[str]:
    """Remove a live version: it becomes noncurrent with versioning, otherwise soft-deleted, otherwise deleted.

    Raises ApiError 403.
    """
    protection.check(home, record, now)
    if home.get("versioning", {}).get("enabled") and not for_good:
        connection.execute(
            "UPDATE storage_objects SET state = 'noncurrent', deleted = ? WHERE id = ?", (now, record.id)
        )
        return []
    seconds = int(home.get("softDeletePolicy", {}).get("retentionDurationSeconds", 0))
    if seconds:
        connection.execute(
            "UPDATE storage_objects SET state = 'soft', deleted = ?, expires = ? WHERE id = ?",
            (now, now + seconds * 1_000_000, record.id),
        )
        return []
    return purge(connection, [record])


def purge(connection: sqlite3.Connection, victims: list[StoredObject]) -> list[str]:
    """Delete rows; return the files that no row names any more."""
    for victim in victims:
        connection.execute("DELETE FROM storage_objects WHERE id = ?", (victim.id,))
    names = {victim.blob for victim in victims if victim.blob is not None}
    return [name for name in names if not is_referenced(connection, name)]


def is_referenced(connection: sqlite3.Connection, blob: str) -> bool:
    """Return whether any row names a file."""
    row = connection.execute(
        "SELECT EXISTS (SELECT 1 FROM storage_objects WHERE blob = :blob)"
        " OR EXISTS (SELECT 1 FROM storage_uploads WHERE blob = :blob AND state = 'open')"
        " OR EXISTS (SELECT 1 FROM storage_parts WHERE blob = :blob)",
        {"blob": blob},
    ).fetchone()
    return bool(row[0])


def prefix_condition(bucket: str, prefix: str) -> tuple[str, tuple[str, ...]]:
    """Return the SQL condition, with its arguments, for the names of a bucket that start with `prefix`."""
    if not prefix:
        return "bucket = ?", (bucket,)
    end = after_prefix(prefix)
    if end is None:
        return "bucket = ? AND name >= ?", (bucket, prefix)
    return "bucket = ? AND name >= ? AND name < ?", (bucket, prefix, end)


def after_prefix(prefix: str) -> str | None:
    """Return the smallest text greater than all texts that start with `prefix`; None if there is none."""
    stem = prefix.rstrip("\U0010ffff")
    if not stem:
        return None
    following = ord(stem[-1]) + 1
    # Surrogates are not characters: UTF-8 continues after them.
    return stem[:-1] + chr(0xE000 if following == 0xD800 else following)


def change(connection: sqlite3.Connection, record: StoredObject, settings: Json, now: int) -> StoredObject:
    """Replace a version's settings in a transaction, increase its metageneration and return it."""
    record.body = json.dumps(settings, ensure_ascii=False, separators=(",", ":"))
    record.metageneration += 1
    record.updated = now
    connection.execute(
        "UPDATE storage_objects SET body = ?, metageneration = ?, updated = ? WHERE id = ?",
        (record.body, record.metageneration, now, record.id),
    )
    return record


def hex_md5(resource: Json) -> str:
    """Return the MD5 of an object's resource in hexadecimal, for the XML API; "" if it has none."""
    return base64.b64decode(resource.get("md5Hash", "")).hex()


def payload_of(record: StoredObject) -> Payload:
    """Return the data of a version that was loaded with it; a copy shares the file."""
    return Payload(record.size, record.crc32c, record.md5, record.inline, record.blob, record.components)
