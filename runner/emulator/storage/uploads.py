"""Uploads in one request: media and multipart. Resumable ones start here and go on in `resumable`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.responses import Response

from runner.emulator.errors import ApiError
from runner.emulator.routing import ApiRequest
from runner.emulator.storage import access, blobs, customer_keys, naming, object_views, objects, resumable
from runner.emulator.storage.blobs import BlobWriter, Payload
from runner.emulator.storage.faults import bad_request
from runner.emulator.storage.hashes import Expected
from runner.emulator.storage.metadata import checked
from runner.emulator.storage.preconditions import Preconditions
from runner.emulator.storage.related import RelatedParser, boundary_of
from runner.emulator.storage.tables import INLINE_LIMIT

Json = dict[str, Any]


@dataclass(slots=True)
class Announced:
    """What a request says about the object it brings."""

    name: str
    settings: Json
    expected: Expected
    preconditions: Preconditions


def announced(request: ApiRequest, body: Json, content_type: str) -> Announced:
    """Join the metadata of the body with the query and the headers. Raises ApiError 400; 403 to who may not write."""
    parameters = request.query_params
    settings = checked(body)
    settings = {key: value for key, value in settings.items() if value is not None}
    settings.setdefault("contentType", content_type or "application/octet-stream")
    for key in ("contentEncoding", "kmsKeyName"):
        if parameters.get(key):
            settings[key] = parameters[key]
    if parameters.get("predefinedAcl"):
        settings["acl"] = parameters["predefinedAcl"]
    if key_of_customer := customer_keys.given(request.headers):
        settings[customer_keys.FIELD] = key_of_customer
    name = naming.check_object_name(parameters.get("name") or body.get("name"))
    # Here, since a condition of a policy may ask for the name, which only the body may tell.
    access.require_object(request, "storage.objects.create", name)
    return Announced(
        name=name,
        settings=settings,
        expected=Expected.of(body, request.headers),
        preconditions=Preconditions.of(parameters, request.headers),
    )


async def insert(request: ApiRequest) -> Response:
    """Store an object, or start a resumable upload, or go on with one."""
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
        _forget(request, payload)
        raise
    return await _store(request, target, payload)


async def receive(request: ApiRequest, parser: RelatedParser | None = None) -> Payload:
    """Take the request's data, through a parser if given. Raises ApiError 400, and 499 when the client goes away."""
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
    """Do what `receive` does when the whole body is small: most requests are."""
    try:
        data = await request.body()
    except ClientDisconnect as error:
        raise ApiError("CANCELLED", "The client closed the connection.") from error
    if parser is not None:
        data = parser.feed(data)
        parser.finish()
    return blobs.inline_payload(data)


async def _store(request: ApiRequest, target: Announced, payload: Payload) -> Response:
    try:
        target.expected.check(payload)
    except ApiError:
        _forget(request, payload)
        raise
    record = await objects.insert(
        request.emulator, request.fields["bucket"], target.name, payload, target.settings, target.preconditions
    )
    return object_views.answer(request, record, full="acl" in target.settings)


def _forget(request: ApiRequest, payload: Payload) -> None:
    if payload.blob is not None:
        blobs.unlink(request.emulator, [payload.blob])
