"""The methods of the Cloud Storage XML API: objects by plain path, and signed URLs.

They match any path of two segments or more, so they are tried last; `answered_in_xml` turns away what is no bucket.
"""

from __future__ import annotations

import sqlite3
from urllib.parse import unquote

from starlette.responses import Response

from runner.emulator.routing import ApiRequest, Handler, Method
from runner.emulator.storage import (
    blobs,
    buckets,
    customer_keys,
    downloads,
    naming,
    objects,
    records,
    resumable,
    xml_multipart,
)
from runner.emulator.storage.access import guarded
from runner.emulator.storage.faults import bad_request, no_such_object
from runner.emulator.storage.hashes import Expected
from runner.emulator.storage.parameters import integer
from runner.emulator.storage.preconditions import Preconditions
from runner.emulator.storage.records import StoredObject
from runner.emulator.storage.uploads import Announced, receive
from runner.emulator.storage.xml import answered_in_xml

_SETTINGS = {
    "content-type": "contentType",
    "content-encoding": "contentEncoding",
    "content-disposition": "contentDisposition",
    "content-language": "contentLanguage",
    "cache-control": "cacheControl",
    "x-goog-storage-class": "storageClass",
    "x-goog-custom-time": "customTime",
}


def target_of(request: ApiRequest) -> Announced:
    """Read from headers what a request says about the object. Raises ApiError 400."""
    settings: dict[str, object] = {
        field: request.headers[header] for header, field in _SETTINGS.items() if header in request.headers
    }
    settings.setdefault("contentType", "application/octet-stream")
    custom = {
        unquote(name.removeprefix("x-goog-meta-")): value
        for name, value in request.headers.items()
        if name.startswith("x-goog-meta-")
    }
    if custom:
        settings["metadata"] = custom
    if key := customer_keys.given(request.headers):
        settings[customer_keys.FIELD] = key
    return Announced(
        name=naming.check_object_name(request.fields["object"]),
        settings=settings,
        expected=Expected.of({}, request.headers),
        preconditions=Preconditions.of_headers(request.headers),
    )


async def get(request: ApiRequest) -> Response:
    """Return an object's data, or the parts of a multipart upload."""
    if "uploadId" in request.query_params:
        return await xml_multipart.list_parts(request)
    return downloads.open_media(
        request.emulator,
        lambda: _load(request),
        request.headers,
        xml=True,
        extra=_overrides(request),
        body=request.method == "GET",
    )


def _overrides(request: ApiRequest) -> dict[str, str]:
    """Return the headers that a signed URL sets: `response-content-type`, `response-content-disposition`."""
    names = ("content-type", "content-disposition", "content-language", "cache-control")
    parameters = request.query_params
    return {name: parameters[f"response-{name}"] for name in names if f"response-{name}" in parameters}


def _load(request: ApiRequest) -> StoredObject:
    key = customer_keys.given(request.headers)
    bucket, name = request.fields["bucket"], request.fields["object"]
    generation = integer(request.query_params, "generation")

    def read(connection: sqlite3.Connection) -> StoredObject:
        buckets.require(connection, bucket)
        record = records.load(connection, bucket, name, generation, data=True)
        if record is None:
            raise no_such_object(bucket, name, generation)
        Preconditions.of_headers(request.headers).check(record, reading=True)
        customer_keys.check(record, key)
        return record

    return request.emulator.store.read(read)


async def put(request: ApiRequest) -> Response:
    """Store an object, or a part of a multipart upload."""
    if "uploadId" in request.query_params:
        return await xml_multipart.put_part(request)
    target = target_of(request)
    payload = await receive(request)
    try:
        target.expected.check(payload)
    except Exception:
        blobs.unlink(request.emulator, [payload.blob] if payload.blob is not None else [])
        raise
    record = await objects.insert(
        request.emulator, request.fields["bucket"], target.name, payload, target.settings, target.preconditions
    )
    headers = dict(downloads.media_headers(record, {}))
    keep = (b"x-goog-hash", b"x-goog-generation", b"x-goog-metageneration", b"x-goog-stored-content-length")
    answer = {name.decode(): headers[name].decode() for name in keep}
    answer["ETag"] = f'"{record.md5.hex() if record.md5 is not None else record.etag}"'
    return Response(status_code=200, headers=answer)


async def delete(request: ApiRequest) -> Response:
    """Delete an object, or abort a multipart upload."""
    if "uploadId" in request.query_params:
        return await xml_multipart.abort(request)
    bucket, name = request.fields["bucket"], request.fields["object"]
    generation = integer(request.query_params, "generation")
    preconditions = Preconditions.of_headers(request.headers)
    now = records.microseconds(request.emulator.clock.now())
    orphans = await request.emulator.store.write(
        lambda connection: objects.remove(connection, bucket, name, generation, preconditions, now)
    )
    blobs.unlink(request.emulator, orphans)
    return Response(status_code=204)


async def post(request: ApiRequest) -> Response:
    """Start or complete a multipart upload, or start a resumable one."""
    parameters = request.query_params
    if "uploads" in parameters:
        return await xml_multipart.initiate(request, target_of(request))
    if "uploadId" in parameters:
        return await xml_multipart.complete(request)
    if request.headers.get("x-goog-resumable") == "start":
        length = integer(request.headers, "x-upload-content-length")
        location = await resumable.open_session(request, target_of(request), length)
        return Response(status_code=201, headers={"Location": location})
    raise bad_request("The request is neither a multipart nor a resumable upload.", "InvalidArgument")


def _method(name: str, http: str, handler: Handler, permission: str) -> Method:
    path = "/{bucket:segment}/{object:path}"
    return Method(f"storage.xml.{name}", http, path, answered_in_xml(guarded(handler, permission)))


METHODS: list[Method] = [
    _method("getObject", "GET", get, "storage.objects.get"),
    _method("headObject", "HEAD", get, "storage.objects.get"),
    _method("putObject", "PUT", put, "storage.objects.create"),
    _method("deleteObject", "DELETE", delete, "storage.objects.delete"),
    _method("postObject", "POST", post, "storage.objects.create"),
]
