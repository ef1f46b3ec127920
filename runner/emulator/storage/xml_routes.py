"""The methods of the Cloud Storage XML API: objects and buckets by plain path, and signed URLs.

They match any path, so they are tried last; `answered_in_xml` refuses paths that are not a bucket's.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

from starlette.responses import Response

from runner.emulator.routing import ApiRequest, Handler, Method
from runner.emulator.storage import (
    access,
    copy_routes,
    customer_keys,
    downloads,
    naming,
    object_routes,
    objects,
    records,
    resumable,
    xml_buckets,
    xml_lists,
    xml_multipart,
)
from runner.emulator.storage.access import guarded
from runner.emulator.storage.acl_routes import ObjectLists
from runner.emulator.storage.announced import Announced
from runner.emulator.storage.faults import bad_request
from runner.emulator.storage.hashes import Expected
from runner.emulator.storage.metadata import checked
from runner.emulator.storage.parameters import integer
from runner.emulator.storage.preconditions import Preconditions
from runner.emulator.storage.uploads import receive, stored
from runner.emulator.storage.xml import (
    EXTENSIONS,
    SETTINGS,
    answered_in_xml,
    document,
    element,
    extension,
    predefined_acl,
)

_META = re.compile(r"x-(?:goog|amz)-meta-")


def target_of(request: ApiRequest) -> Announced:
    """Read an object's metadata from a request's headers. Raises ApiError 400."""
    given: dict[str, object] = {
        field: request.headers[header] for header, field in SETTINGS.items() if header in request.headers
    }
    for name, field in EXTENSIONS.items():
        if value := extension(request.headers, name):
            given[field] = value
    custom = {
        unquote(name[match.end() :]): value for name, value in request.headers.items() if (match := _META.match(name))
    }
    settings = {
        "contentType": "application/octet-stream",
        **checked({**given, **({"metadata": custom} if custom else {})}),
    }
    if acl := predefined_acl(request.headers):
        settings["acl"] = acl
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
    if "acl" in request.query_params:
        return xml_lists.shown(request, ObjectLists())
    return downloads.open_media(
        request.emulator,
        lambda: object_routes.load(request, Preconditions.of_headers(request.headers), data=True),
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


async def put(request: ApiRequest) -> Response:
    """Store an object, or a part of a multipart upload."""
    if "uploadId" in request.query_params:
        return await xml_multipart.put_part(request)
    if "acl" in request.query_params:
        return await xml_lists.replaced(request, ObjectLists())
    if extension(request.headers, "copy-source"):
        return await _copy(request)
    target = target_of(request)
    record = await stored(request, target, await receive(request))
    headers = dict(downloads.media_headers(record, {}))
    keep = (b"x-goog-hash", b"x-goog-generation", b"x-goog-metageneration", b"x-goog-stored-content-length")
    answer = {name.decode(): headers[name].decode() for name in keep}
    answer["ETag"] = f'"{record.tag}"'
    return Response(status_code=200, headers=answer)


async def _copy(request: ApiRequest) -> Response:
    """Copy an object (`x-goog-copy-source`)."""
    source = unquote(extension(request.headers, "copy-source") or "").removeprefix("/")
    bucket, _, name = source.partition("/")
    name, _, generation = name.partition("#") if re.search(r"#\d+\Z", name) else (name, "", "")
    if not bucket or not name:
        raise bad_request(f"The copy source {source!r} is not BUCKET/OBJECT.", "InvalidArgument")
    request.emulator.store.read(
        lambda connection: access.require_on(connection, request, "storage.objects.get", bucket=bucket, name=name)
    )
    target = target_of(request)
    directive = (extension(request.headers, "metadata-directive") or "COPY").upper()
    if directive not in ("COPY", "REPLACE"):
        raise bad_request(f"Unknown metadata directive {directive!r}.", "InvalidArgument")
    kept = copy_routes.OWN if directive == "COPY" else set(target.settings)
    record = await copy_routes.copied(
        request,
        source=(bucket, name),
        generation=integer(
            {"generation": extension(request.headers, "copy-source-generation") or generation}, "generation"
        ),
        source_conditions=Preconditions.of_headers(request.headers, "copy-source-"),
        target=(request.fields["bucket"], target.name),
        given={key: value for key, value in target.settings.items() if key in kept},
        preconditions=target.preconditions,
        replace=directive == "REPLACE",
    )
    content = element("LastModified", records.timestamp(record.created)) + element("ETag", f'"{record.tag}"')
    return document("CopyObjectResult", content)


async def delete(request: ApiRequest) -> Response:
    """Delete an object, or abort a multipart upload."""
    if "uploadId" in request.query_params:
        return await xml_multipart.abort(request)
    bucket, name = request.fields["bucket"], request.fields["object"]
    generation = integer(request.query_params, "generation")
    await objects.delete(request.emulator, bucket, name, generation, Preconditions.of_headers(request.headers))
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


def _method(name: str, http: str, path: str, handler: Handler, *permissions: str) -> Method:
    return Method(f"storage.xml.{name}", http, path, answered_in_xml(guarded(handler, *permissions)))


_OBJECT, _BUCKET = "/{bucket:segment}/{object:path}", "/{bucket:segment=[^/]+}{slash=/?}"

METHODS: list[Method] = [
    _method("getObject", "GET", _OBJECT, get, "storage.objects.get"),
    _method("headObject", "HEAD", _OBJECT, get, "storage.objects.get"),
    _method("putObject", "PUT", _OBJECT, put, "storage.objects.create"),
    _method("deleteObject", "DELETE", _OBJECT, delete, "storage.objects.delete"),
    _method("postObject", "POST", _OBJECT, post, "storage.objects.create"),
    _method("getBucket", "GET", _BUCKET, xml_buckets.get, "storage.objects.list"),
    _method("headBucket", "HEAD", _BUCKET, xml_buckets.head, "storage.buckets.get"),
    _method("putBucket", "PUT", _BUCKET, xml_buckets.put),
    _method("deleteBucket", "DELETE", _BUCKET, xml_buckets.delete, "storage.buckets.delete"),
    _method("postBucket", "POST", _BUCKET, xml_buckets.post),
    _method("listBuckets", "GET", "/", xml_buckets.list_buckets),
]
