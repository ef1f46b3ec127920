"""Buckets in the XML API: lists of objects and buckets, settings, forms (https://cloud.google.com/storage/docs/xml-api)."""

from __future__ import annotations

import sqlite3
from typing import Any
from urllib.parse import quote

from starlette.responses import Response

from runner.emulator import projects
from runner.emulator.errors import ApiError
from runner.emulator.routing import ApiRequest
from runner.emulator.storage import (
    access,
    acl_routes,
    bucket_routes,
    buckets,
    listing,
    objects,
    post_forms,
    records,
    xml_lists,
)
from runner.emulator.storage.faults import bad_request, unsupported
from runner.emulator.storage.preconditions import NONE
from runner.emulator.storage.signatures import SIGNER
from runner.emulator.storage.xml import document, element, extension, parsed, predefined_acl, texts

Json = dict[str, Any]

_OTHERS = (
    *("billing", "cors", "encryption", "lifecycle", "logging", "notification", "policy", "publicAccessBlock"),
    *("replication", "retention", "storageClass", "tagging", "uploads", "website"),
)
"""Subresources that this server does not have."""


async def get(request: ApiRequest) -> Response:
    """List objects, or return a setting."""
    parameters = request.query_params
    name = request.fields["bucket"]
    if "acl" in parameters:
        return xml_lists.shown(request, acl_routes.Lists())
    if "location" in parameters or "versioning" in parameters:
        bucket = request.emulator.store.read(lambda connection: buckets.get(connection, name))
        if "location" in parameters:
            return document("LocationConstraint", bucket["location"])
        enabled = bucket.get("versioning", {}).get("enabled")
        return document("VersioningConfiguration", element("Status", "Enabled") if enabled else "")
    _refuse_others(request)
    return _listed(request)


def _refuse_others(request: ApiRequest) -> None:
    for other in _OTHERS:
        if other in request.query_params:
            raise unsupported(f"{request.method} ?{other} of a bucket in the XML API")


def _listed(request: ApiRequest) -> Response:
    parameters = request.query_params
    second = parameters.get("list-type") == "2"
    delimiter = parameters.get("delimiter", "")
    begin = (parameters.get("start-after") if second else parameters.get("marker")) or ""
    if begin and delimiter and begin.endswith(delimiter):
        begin = objects.after_prefix(begin) or begin
    elif begin:
        begin += "\0"
    wanted = {
        "prefix": parameters.get("prefix", ""),
        "delimiter": delimiter,
        "startOffset": begin,
        "pageToken": parameters.get("continuation-token", "") if second else "",
        "maxResults": parameters.get("max-keys", "1000"),
        "versions": "true" if "versions" in parameters else "false",
    }
    query = listing.Query.of(wanted)
    page = request.emulator.store.read(lambda connection: listing.list_objects(connection, request, query))
    encoded = parameters.get("encoding-type") == "url"
    items, prefixes, token = page.get("items", []), page.get("prefixes", []), page.get("nextPageToken")

    def named(tag: str, text: str) -> str:
        return element(tag, quote(text, safe="/") if encoded else text)

    content = element("Name", request.fields["bucket"]) + named("Prefix", wanted["prefix"])
    if second:
        content += element("KeyCount", len(items) + len(prefixes))
        content += element("NextContinuationToken", token) if token else ""
    else:
        content += named("Marker", parameters.get("marker", ""))
        last = max([*prefixes, *(item["name"] for item in items)], default="")
        content += named("NextMarker", last) if token else ""
    content += element("MaxKeys", query.limit)
    content += named("Delimiter", delimiter) if delimiter else ""
    content += element("EncodingType", "url") if encoded else ""
    content += element("IsTruncated", "true" if token else "false")
    tag = "Version" if "versions" in parameters else "Contents"
    for item in items:
        content += f"<{tag}>{named('Key', item['name'])}{_described(item)}</{tag}>"
    content += "".join(f"<CommonPrefixes>{named('Prefix', prefix)}</CommonPrefixes>" for prefix in prefixes)
    return document("ListBucketResult", content)


def _described(item: Json) -> str:
    tag = objects.hex_md5(item) or item["etag"]
    fields = {
        "Generation": item["generation"],
        "MetaGeneration": item["metageneration"],
        "LastModified": item["updated"],
        "ETag": f'"{tag}"',
        "Size": item["size"],
        "StorageClass": item["storageClass"],
    }
    return "".join(element(name, value) for name, value in fields.items())


async def head(request: ApiRequest) -> Response:
    """Return whether a bucket exists."""
    name = request.fields["bucket"]
    bucket = request.emulator.store.read(lambda connection: buckets.get(connection, name))
    headers = {
        "x-goog-bucket-location": bucket["location"],
        "x-goog-storage-class": bucket["storageClass"],
        "x-goog-metageneration": bucket["metageneration"],
    }
    return Response(status_code=200, headers={**headers, "x-amz-bucket-region": bucket["location"].lower()})


async def put(request: ApiRequest) -> Response:
    """Create a bucket, or change a setting."""
    parameters, name = request.query_params, request.fields["bucket"]
    if "acl" in parameters:
        await _require(request, "storage.buckets.setIamPolicy", name)
        return await xml_lists.replaced(request, acl_routes.Lists())
    body = await request.read_body()
    if "versioning" in parameters:
        await _require(request, "storage.buckets.update", name)
        enabled = texts(parsed(body)).get("Status") == "Enabled"
        now = records.microseconds(request.emulator.clock.now())

        def write(connection: sqlite3.Connection) -> None:
            stored = buckets.require(connection, name)
            buckets.update(connection, name, {**stored, "versioning": {"enabled": enabled}}, now)

        await request.emulator.store.write(write)
        return Response(status_code=200)
    _refuse_others(request)
    await _require(request, "storage.buckets.create", "")
    given = texts(parsed(body)) if body.strip() else {}
    settings: Json = {"name": name}
    location = given.get("LocationConstraint")
    storage_class = given.get("StorageClass") or extension(request.headers, "storage-class")
    settings |= {"location": location} if location else {}
    settings |= {"storageClass": storage_class} if storage_class else {}
    acl = predefined_acl(request.headers)
    await bucket_routes.create(request, _project(request), settings, {"acl": acl} if acl else {})
    return Response(status_code=200, headers={"Location": f"/{name}"})


async def _require(request: ApiRequest, permission: str, bucket: str) -> None:
    project = _project(request) if not bucket else ""
    request.emulator.store.read(
        lambda connection: access.require_on(connection, request, permission, bucket=bucket, project=project)
    )


async def delete(request: ApiRequest) -> Response:
    """Delete an empty bucket."""
    _refuse_others(request)
    await bucket_routes.remove(request, request.fields["bucket"], NONE)
    return Response(status_code=204)


async def post(request: ApiRequest) -> Response:
    """Process a form (a POST policy), or delete several objects."""
    bucket = request.fields["bucket"]
    if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        return await post_forms.take(request)
    if "delete" not in request.query_params:
        raise bad_request("The request is neither a form nor a deletion of objects.", "InvalidArgument")
    root = parsed(await request.read_body())
    names = [texts(node).get("Key", "") for node in root if node.tag.endswith("Object")]
    quiet = texts(root).get("Quiet", "").lower() == "true"
    for name in names:
        request.emulator.store.read(
            lambda connection, name=name: access.require_on(  # type: ignore[misc]
                connection, request, "storage.objects.delete", bucket=bucket, name=name
            )
        )
    content = ""
    for name in names:
        try:
            await objects.delete(request.emulator, bucket, name)
        except ApiError as error:
            if error.http != 404 or error.message == "The specified bucket does not exist.":
                raise
        content += "" if quiet else f"<Deleted>{element('Key', name)}</Deleted>"
    return document("DeleteResult", content)


async def list_buckets(request: ApiRequest) -> Response:
    """List the buckets of the project in `x-goog-project-id`, or of the signer's account."""
    name = _project(request)

    def read(connection: sqlite3.Connection) -> list[Json]:
        access.require_on(connection, request, "storage.buckets.list", project=name)
        project = projects.resolve(connection, name)
        rows = connection.execute("SELECT name FROM storage_buckets WHERE project = ? ORDER BY name", (project.number,))
        return [buckets.get(connection, row[0]) for row in rows.fetchall()]

    found = request.emulator.store.read(read)
    content = "".join(
        f"<Bucket>{element('Name', bucket['name'])}{element('CreationDate', bucket['timeCreated'])}</Bucket>"
        for bucket in found
    )
    return document("ListAllMyBucketsResult", f"<Buckets>{content}</Buckets>")


def _project(request: ApiRequest) -> str:
    given = extension(request.headers, "project-id")
    signer = request.scope.get(SIGNER, "")
    if not given and not signer:
        raise bad_request("The project of the request is not known: set x-goog-project-id.", "UserProjectMissing")
    return given or signer.partition("@")[2].partition(".")[0]
