"""Multipart uploads of the XML API (https://cloud.google.com/storage/docs/multipart-uploads).

`transfer_manager.upload_chunks_concurrently` of Google's Python library uses them.
"""

from __future__ import annotations

import base64
import itertools
import json
import sqlite3
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape

from anyio import to_thread
from starlette.responses import Response

from runner.emulator.errors import ApiError
from runner.emulator.routing import ApiRequest
from runner.emulator.storage import blobs, objects, records
from runner.emulator.storage.announced import Announced, opened
from runner.emulator.storage.blobs import Payload
from runner.emulator.storage.faults import bad_request
from runner.emulator.storage.hashes import Expected
from runner.emulator.storage.preconditions import Preconditions
from runner.emulator.storage.records import encode_crc32c
from runner.emulator.storage.uploads import receive
from runner.emulator.storage.xml import document, element, parsed, texts

Json = dict[str, Any]

_MIN_PART = 5 * 1024 * 1024
"""Minimum bytes of every part except the last."""
_MAX_PARTS = 10_000


@dataclass(frozen=True, slots=True)
class _Part:
    number: int
    size: int
    crc32c: int
    md5: bytes
    updated: int
    blob: str

    @property
    def etag(self) -> str:
        return f'"{self.md5.hex()}"'


async def initiate(request: ApiRequest, target: Announced) -> Response:
    """Start an upload."""
    upload, bucket = await opened(request, target, "multipart"), request.fields["bucket"]
    return _result("InitiateMultipartUploadResult", bucket, target.name, f"<UploadId>{upload}</UploadId>")


async def put_part(request: ApiRequest) -> Response:
    """Store one part; a repeated part replaces the earlier one."""
    number_text = request.query_params.get("partNumber", "")
    if not number_text.isascii() or not number_text.isdigit() or not 1 <= int(number_text) <= _MAX_PARTS:
        raise bad_request(f"Part number must be an integer between 1 and {_MAX_PARTS}.", "InvalidArgument")
    number = int(number_text)
    expected = Expected.of({}, request.headers)
    request.emulator.store.read(lambda connection: _find(connection, request))
    payload = await _in_file(request, await receive(request))
    blob, md5 = payload.blob or "", payload.md5 or b""
    now = records.microseconds(request.emulator.clock.now())

    def write(connection: sqlite3.Connection) -> list[str]:
        upload, _ = _find(connection, request)
        replaced = connection.execute(
            "SELECT blob FROM storage_parts WHERE upload = ? AND number = ?", (upload, number)
        ).fetchall()
        connection.execute(
            "INSERT OR REPLACE INTO storage_parts (upload, number, size, crc32c, md5, updated, blob)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (upload, number, payload.size, payload.crc32c, md5, now, blob),
        )
        return [row[0] for row in replaced]

    try:
        expected.check(payload)
        orphans = await request.emulator.store.write(write)
    except Exception:
        blobs.unlink(request.emulator, [blob])
        raise
    blobs.unlink(request.emulator, orphans)
    hashes = f"crc32c={encode_crc32c(payload.crc32c)},md5={base64.b64encode(md5).decode()}"
    return Response(status_code=200, headers={"ETag": f'"{md5.hex()}"', "x-goog-hash": hashes})


async def _in_file(request: ApiRequest, payload: Payload) -> Payload:
    """Return the payload with its data in a file, because parts are only read again to be joined."""
    if payload.blob is not None:
        return payload
    writer = blobs.BlobWriter(request.emulator.blobs)

    def write() -> Payload:
        writer.write_now(payload.inline or b"")
        return writer.finish_file()

    return await to_thread.run_sync(write)


async def complete(request: ApiRequest) -> Response:
    """Join the parts to an object."""
    wanted = parse_parts(await request.read_body())
    emulator, bucket = request.emulator, request.fields["bucket"]

    def read(connection: sqlite3.Connection) -> tuple[Json, list[_Part]]:
        upload, body = _find(connection, request)
        stored = {part.number: part for part in _parts(connection, upload)}
        return body, _chosen(wanted, stored)

    body, parts = emulator.store.read(read)
    files: list[bytes | str] = [part.blob for part in parts]
    try:
        payload = await to_thread.run_sync(blobs.concatenate, emulator.blobs, files)
    except FileNotFoundError as error:
        # A part was sent again, or the upload aborted, since they were read.
        raise bad_request("One or more of the specified parts could not be found.", "InvalidPart") from error
    payload.components = len(parts)
    now = records.microseconds(emulator.clock.now())

    def write(connection: sqlite3.Connection) -> tuple[records.StoredObject, list[str]]:
        upload, _ = _find(connection, request)
        preconditions = Preconditions.from_json(body["preconditions"])
        record, orphans = objects.add(
            connection, bucket, request.fields["object"], payload, body["settings"], preconditions, now
        )
        return record, orphans + _drop(connection, upload)

    record = await objects.commit(emulator, write, payload)
    location = escape(f"{request.base}/{bucket}/{request.fields['object']}")
    extra = f"<Location>{location}</Location><ETag>&quot;{record.etag}&quot;</ETag>"
    response = _result("CompleteMultipartUploadResult", bucket, record.name, extra)
    response.headers["x-goog-generation"] = str(record.generation)
    response.headers["x-goog-hash"] = f"crc32c={encode_crc32c(record.crc32c)}"
    return response


async def abort(request: ApiRequest) -> Response:
    """Delete an upload and its parts."""

    def write(connection: sqlite3.Connection) -> list[str]:
        upload, _ = _find(connection, request)
        return _drop(connection, upload)

    blobs.unlink(request.emulator, await request.emulator.store.write(write))
    return Response(status_code=204)


async def list_parts(request: ApiRequest) -> Response:
    """List the stored parts."""

    def read(connection: sqlite3.Connection) -> tuple[str, list[_Part]]:
        upload, _ = _find(connection, request)
        return upload, _parts(connection, upload)

    upload, parts = request.emulator.store.read(read)
    extra = f"<UploadId>{upload}</UploadId><IsTruncated>false</IsTruncated>"
    for part in parts:
        extra += (
            f"<Part><PartNumber>{part.number}</PartNumber><LastModified>{records.timestamp(part.updated)}</LastModified>"
            f"<ETag>{escape(part.etag)}</ETag><Size>{part.size}</Size></Part>"
        )
    return _result("ListPartsResult", request.fields["bucket"], request.fields["object"], extra)


def parse_parts(body: bytes) -> list[tuple[int, str]]:
    """Read `<CompleteMultipartUpload>`: numbers and ETags in order. Raises ApiError 400."""
    code = "MalformedCompleteMultipartUploadRequest"
    try:
        found = [texts(part) for part in parsed(body, code)]
        parts = [(int(fields["PartNumber"]), fields["ETag"].strip('"')) for fields in found]
    except (KeyError, ValueError) as error:
        raise bad_request("The XML you provided was not well-formed.", code) from error
    if not parts:
        raise bad_request("You must specify at least one part.", "InvalidArgument")
    if any(one[0] >= other[0] for one, other in itertools.pairwise(parts)):
        raise bad_request("The list of parts was not in ascending order.", "InvalidPartOrder")
    return parts


def _chosen(wanted: list[tuple[int, str]], stored: dict[int, _Part]) -> list[_Part]:
    """Return the requested parts. Raises ApiError 400."""
    chosen = []
    for number, etag in wanted:
        part = stored.get(number)
        if part is None or part.md5.hex() != etag:
            raise bad_request("One or more of the specified parts could not be found.", "InvalidPart")
        chosen.append(part)
    if any(part.size < _MIN_PART for part in chosen[:-1]):
        raise bad_request("Your proposed upload is smaller than the minimum allowed size.", "EntityTooSmall")
    return chosen


def _find(connection: sqlite3.Connection, request: ApiRequest) -> tuple[str, Json]:
    """Return the upload's ID and its body. Raises ApiError NOT_FOUND."""
    row = connection.execute(
        "SELECT id, body FROM storage_uploads"
        " WHERE id = ? AND kind = 'multipart' AND state = 'open' AND bucket = ? AND name = ?",
        (request.query_params["uploadId"], request.fields["bucket"], request.fields["object"]),
    ).fetchone()
    if row is None:
        raise ApiError("NOT_FOUND", "The requested upload was not found.", reason="NoSuchUpload")
    return row[0], json.loads(row[1])


def _parts(connection: sqlite3.Connection, upload: str) -> list[_Part]:
    rows = connection.execute(
        "SELECT number, size, crc32c, md5, updated, blob FROM storage_parts WHERE upload = ? ORDER BY number", (upload,)
    )
    return [_Part(*row) for row in rows]


def _drop(connection: sqlite3.Connection, upload: str) -> list[str]:
    rows = connection.execute("DELETE FROM storage_parts WHERE upload = ? RETURNING blob", (upload,)).fetchall()
    connection.execute("DELETE FROM storage_uploads WHERE id = ?", (upload,))
    return [row[0] for row in rows]


def _result(tag: str, bucket: str, name: str, extra: str) -> Response:
    return document(tag, element("Bucket", bucket) + element("Key", name) + extra)
