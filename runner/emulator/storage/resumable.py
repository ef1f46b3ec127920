"""Resumable uploads (https://cloud.google.com/storage/docs/performing-resumable-uploads).

A session is a row and a file. A chunk is written at the start of its range, never appended; bytes that are already
there are skipped, so that a repeated chunk changes nothing. A chunk is acknowledged when its bytes and the session's
`received` are on disk. After a crash, the client requests the position and continues.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from anyio import to_thread
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from runner.emulator.context import Emulator
from runner.emulator.errors import ApiError
from runner.emulator.routing import ApiRequest
from runner.emulator.storage import blobs, buckets, object_views, objects, records, session_files
from runner.emulator.storage.announced import Announced, opened
from runner.emulator.storage.blobs import CHUNK, Payload
from runner.emulator.storage.content_range import ContentRange, parse_content_range
from runner.emulator.storage.faults import bad_request
from runner.emulator.storage.hashes import Expected
from runner.emulator.storage.parameters import integer
from runner.emulator.storage.preconditions import Preconditions
from runner.emulator.storage.replies import reply
from runner.emulator.storage.session_files import Progress
from runner.emulator.storage.tables import INLINE_LIMIT

Json = dict[str, Any]

_MIN_CHUNK = 256 * 1024
"""Minimum bytes of every chunk except the last."""


@dataclass(slots=True)
class _Session:
    """A row of `storage_uploads`."""

    id: str
    bucket: str
    name: str
    state: str
    body: Json
    received: int
    blob: str


async def start(request: ApiRequest, target: Announced) -> Response:
    """Start a session; `Location` contains its address. Raises ApiError NOT_FOUND, 412."""
    location = await open_session(request, target, integer(request.headers, "x-upload-content-length"))
    return Response(status_code=200, headers={"Location": location, "X-GUploader-UploadID": location[-32:]})


async def open_session(request: ApiRequest, target: Announced, length: int | None) -> str:
    """Store a new session.

    Return its address. `length` is the announced size in bytes. Raises the errors of `start`.
    """
    announced = {"crc32c": target.expected.crc32c, "md5": target.expected.md5, "length": length}
    upload = await opened(request, target, "resumable", **announced)
    bucket = request.fields["bucket"]
    return f"{request.base}/upload/storage/v1/b/{bucket}/o?uploadType=resumable&upload_id={upload}"


def _load(connection: sqlite3.Connection, upload: str) -> _Session:
    row = connection.execute(
        "SELECT id, bucket, name, state, body, received, blob FROM storage_uploads WHERE id = ? AND kind = 'resumable'",
        (upload,),
    ).fetchone()
    if row is None:
        raise ApiError("NOT_FOUND", "Upload session not found.")
    if row[3] == "cancelled":
        raise ApiError("CANCELLED", "The upload was cancelled.")
    identifier, bucket, name, state, body, received, blob = row
    return _Session(identifier, bucket, name, state, json.loads(body), received, blob)


def _find(request: ApiRequest) -> _Session:
    upload = request.query_params["upload_id"]
    session = request.emulator.store.read(lambda connection: _load(connection, upload))
    if session.bucket != request.fields["bucket"]:
        raise ApiError("NOT_FOUND", "Upload session not found.")
    return session


async def proceed(request: ApiRequest) -> Response:
    """Receive a chunk, or return the position of the session (308), or finish it."""
    if "upload_id" not in request.query_params:
        raise bad_request("Required parameter: upload_id", "required")
    session = _find(request)
    span = parse_content_range(request.headers.get("content-range"))
    if session.state == "done":
        return _done(request, session.body)
    progress = await session_files.progress_of(request.emulator, session.id, session.blob, session.received)
    # The metadata at the start counts; that of the last request changes nothing.
    expected = Expected(session.body["crc32c"], session.body["md5"]), Expected.of({}, request.headers)
    if span.begin is None:
        await _sync(request.emulator, session, progress)
        if span.total is not None and span.total == progress.written:
            return await _finish(request, session, progress, expected)
        return _incomplete(request, progress.written)
    _check_size(span)
    if span.begin > progress.written:
        raise bad_request(
            f"Invalid request. According to the Content-Range header, the upload offset is {span.begin} byte(s), "
            f"which exceeds already uploaded size of {progress.written} byte(s)."
        )
    if payload := await _small(request, progress, span):
        return await _finish(request, session, progress, expected, payload)
    complete = await _receive(request, session, progress, span)
    if complete and (span.end is None or span.end == span.total):
        return await _finish(request, session, progress, expected)
    await _sync(request.emulator, session, progress)
    return _incomplete(request, progress.written)


def _check_size(span: ContentRange) -> None:
    """Refuse a chunk that is too small and not the last one. Raises ApiError 400."""
    if span.begin is None or span.end is None or span.end == span.total:
        return
    if span.end - span.begin < _MIN_CHUNK:
        raise bad_request(
            f"Invalid request.  The number of bytes uploaded is required to be equal or greater than {_MIN_CHUNK}, "
            "except for the final request (it's recommended to be the exact multiple of "
            f"{_MIN_CHUNK}).  The received request contained {span.end - span.begin} bytes, "
            "which does not meet this requirement.",
            "badRequest",
        )


async def cancel(request: ApiRequest) -> Response:
    """Delete a session and its data; answers 499, as on the service."""
    if "upload_id" not in request.query_params:
        raise bad_request("Required parameter: upload_id", "required")
    session = _find(request)

    def write(connection: sqlite3.Connection) -> int:
        return connection.execute(
            "UPDATE storage_uploads SET state = 'cancelled' WHERE id = ? AND state = 'open'", (session.id,)
        ).rowcount

    if await request.emulator.store.write(write):
        session_files.forget(session.id)
        blobs.unlink(request.emulator, [session.blob])
    return Response(status_code=499)


async def _small(request: ApiRequest, progress: Progress, span: ContentRange) -> Payload | None:
    """Return the payload of an upload with a single small chunk, which needs no file."""
    length = request.headers.get("content-length", "")
    whole = span.end is None or (span.begin == 0 and span.end == span.total)
    if progress.written or not whole or not length.isdigit() or int(length) > INLINE_LIMIT:
        return None
    if span.end is not None and span.end != int(length):
        return None
    try:
        return blobs.inline_payload(await request.body())
    except ClientDisconnect as error:
        raise ApiError("CANCELLED", "The client closed the connection.") from error


async def _receive(request: ApiRequest, session: _Session, progress: Progress, span: ContentRange) -> bool:
    """Write the request's data at its position; return whether the data is complete.

    Raises ApiError 400 for too much data, and 499 if the client disconnects: data that has arrived until then is kept.
    """
    at = span.begin or 0
    path = request.emulator.blobs / session.blob
    pending: list[bytes] = []
    size = 0

    async def flush() -> None:
        nonlocal at, size
        data = b"".join(pending)
        pending.clear()
        size = 0
        async with progress.lock:
            skip = progress.written - at
            at += len(data)
            if skip < len(data):
                await to_thread.run_sync(session_files.append, path, data[skip:] if skip else data, progress)

    try:
        async for piece in request.stream():
            pending.append(piece)
            size += len(piece)
            if span.end is not None and at + size > span.end:
                raise bad_request("The request holds more bytes than its Content-Range.")
            if size >= CHUNK:
                await flush()
        await flush()
    except ClientDisconnect as error:
        await flush()
        await _sync(request.emulator, session, progress)
        raise ApiError("CANCELLED", "The client closed the connection.") from error
    return span.end is None or at == span.end


async def _sync(emulator: Emulator, session: _Session, progress: Progress) -> None:
    """Make the written data durable, and record its size."""
    async with progress.lock:
        written = progress.written
        if written > session.received:
            await to_thread.run_sync(session_files.sync, emulator.blobs / session.blob, None)
            await emulator.store.write(
                lambda connection: (
                    connection.execute(
                        "UPDATE storage_uploads SET received = ? WHERE id = ? AND received < ?",
                        (written, session.id, written),
                    ).rowcount
                )
            )


async def _finish(
    request: ApiRequest,
    session: _Session,
    progress: Progress,
    expected: Iterable[Expected],
    payload: Payload | None = None,
) -> Response:
    """Convert the session to an object. Raises ApiError 400 (length, checksum), 412."""
    emulator = request.emulator
    async with progress.lock:
        if payload is None:
            size = progress.written
            payload = Payload(size, progress.crc32c, progress.md5.digest(), blob=session.blob)
            if size == 0:
                payload = blobs.inline_payload(b"")
        length = session.body["length"]
        if length is not None and length != payload.size:
            raise bad_request(f"The upload has {payload.size} bytes, but {length} were announced.")
        for announced in expected:
            announced.check(payload)
        if payload.blob is not None:
            await to_thread.run_sync(session_files.sync, emulator.blobs / session.blob, payload.size)
        now = records.microseconds(emulator.clock.now())
        final = payload

        def write(connection: sqlite3.Connection) -> tuple[Json, list[str]]:
            current = _load(connection, session.id)
            if current.state == "done":
                return current.body, []
            preconditions = Preconditions.from_json(session.body["preconditions"])
            record, orphans = objects.add(
                connection, session.bucket, session.name, final, session.body["settings"], preconditions, now
            )
            home = buckets.require(connection, session.bucket)
            body = {"resource": object_views.shown(connection, request, record, home, full=False)}
            connection.execute(
                "UPDATE storage_uploads SET state = 'done', body = ?, received = ?, generation = ? WHERE id = ?",
                (json.dumps(body, ensure_ascii=False), final.size, record.generation, session.id),
            )
            return body, orphans

        body, orphans = await emulator.store.write(write)
        blobs.unlink(emulator, orphans)
    session_files.forget(session.id)
    return _done(request, body)


def _done(request: ApiRequest, body: Json) -> Response:
    return reply(request, body["resource"])


def _incomplete(request: ApiRequest, received: int) -> Response:
    """Return the position of the session; with status 200 for a client that cannot handle 308 (Go's)."""
    headers = {"Range": f"bytes=0-{received - 1}"} if received else {}
    if request.headers.get("x-guploader-no-308") == "yes":
        return Response(status_code=200, headers={**headers, "X-HTTP-Status-Code-Override": "308"})
    return Response(status_code=308, headers=headers)
