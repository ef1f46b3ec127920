"""Uploads with one request: media and multipart. Resumable ones start here and continue in `resumable`."""

from __future__ import annotations

import json
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.responses import Response

from runner.emulator.errors import ApiError
from runner.emulator.routing import ApiRequest
from runner.emulator.storage import blobs, object_views, objects, resumable
from runner.emulator.storage.announced import Announced, announced
from runner.emulator.storage.blobs import BlobWriter, Payload
from runner.emulator.storage.faults import bad_request
from runner.emulator.storage.records import StoredObject
from runner.emulator.storage.related import RelatedParser, boundary_of
from runner.emulator.storage.tables import INLINE_LIMIT

Json = dict[str, Any]


async def insert(request: ApiRequest) -> Response:
    """Store an object, or start or continue a resumable upload."""
    parameters = request.query_params
    kind = parameters.get("uploadType")
    if "upload_id" in parameters:
        return await resumable.proceed(request)
    if kind == "resumable":
        content_type = request.headers.get("x-upload-content-type", "")
        return await resumable.start(request, announced(request, await request.read_json(), content_type))
    content_type = request.headers.get("content-type", "")
    multipart = content_type.lower().startswith("multipart/related")
    if kind == "multipart" and not multipart:
        raise bad_request("Multipart upload requests must have a multipart/related Content-Type.", "badContent")
    if kind == "multipart" or (kind is None and multipart):
        return await _insert_multipart(request, content_type)
    if kind not in ("media", None):
        raise bad_request(f"Invalid value for uploadType: '{kind}'", "invalidParameter")
    target = announced(request, {}, content_type)
    return await _store(request, target, await receive(request))


async def _insert_multipart(request: ApiRequest, content_type: str) -> Response:
    parser = RelatedParser(boundary_of(content_type))
    payload = await receive(request, parser)
    try:
        try:
            body = json.loads(parser.metadata) if parser.metadata.strip() else {}
        except (ValueError, RecursionError) as error:
            raise bad_request(f"Invalid JSON in the metadata part: {error}", "parseError") from error
        if not isinstance(body, dict):
            raise bad_request("The metadata part must be a JSON object.", "parseError")
        target = announced(request, body, parser.content_type)
    except ApiError:
        if payload.blob is not None:
            blobs.unlink(request.emulator, [payload.blob])
        raise
    return await _store(request, target, payload)


async def receive(request: ApiRequest, parser: RelatedParser | None = None) -> Payload:
    """Receive the request's data, through a parser if given. Raises ApiError 400, and 499 if the client disconnects."""
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) <= INLINE_LIMIT:
        return await _receive_small(request, parser)
    writer = BlobWriter(request.emulator.blobs)
    try:
        async for piece in request.stream():
            data = piece if parser is None else parser.feed(piece)
            if data:
                await writer.write(data)
        if parser is not None:
            parser.finish()
        return await writer.finish()
    except ClientDisconnect as error:
        writer.discard()
        raise ApiError("CANCELLED", "The client closed the connection.") from error
    except BaseException:
        writer.discard()
        raise


async def _receive_small(request: ApiRequest, parser: RelatedParser | None) -> Payload:
    """Do the same as `receive` if the whole body is small, as for most requests."""
    try:
        data = await request.body()
    except ClientDisconnect as error:
        raise ApiError("CANCELLED", "The client closed the connection.") from error
    if parser is not None:
        data = parser.feed(data)
        parser.finish()
    return blobs.inline_payload(data)


async def _store(request: ApiRequest, target: Announced, payload: Payload) -> Response:
    return object_views.answer(request, await stored(request, target, payload), full="acl" in target.settings)


async def stored(request: ApiRequest, target: Announced, payload: Payload) -> StoredObject:
    """Create an object from a request's metadata and data. Raises ApiError NOT_FOUND, 400, 412."""
    return await objects.insert(
        request.emulator,
        request.fields["bucket"],
        target.name,
        payload,
        target.settings,
        target.preconditions,
        target.expected,
    )
