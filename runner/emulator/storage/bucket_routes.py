"""Methods on buckets (https://cloud.google.com/storage/docs/json_api/v1/buckets)."""

from __future__ import annotations

import sqlite3
from typing import Any

from starlette.responses import Response

from runner.emulator.cloudresourcemanager import projects
from runner.emulator.routing import ApiRequest, json_response
from runner.emulator.serviceusage import enablement
from runner.emulator.storage import blobs, buckets, naming, objects, records
from runner.emulator.storage.bucket_settings import checked
from runner.emulator.storage.faults import NotModifiedError, bad_request, conflict
from runner.emulator.storage.metadata import merged
from runner.emulator.storage.parameters import boolean, integer
from runner.emulator.storage.preconditions import Preconditions
from runner.emulator.storage.projection import reply

Json = dict[str, Any]


async def insert(request: ApiRequest) -> Response:
    """Make a bucket."""
    project_name = request.query_params.get("project")
    if not project_name:
        raise bad_request("Required parameter: project", "required")
    body = await request.read_json()
    name = naming.check_bucket_name(body.get("name"))
    settings = checked(body)
    if boolean(request.query_params, "enableObjectRetention"):
        settings["objectRetention"] = {"mode": "Enabled"}
    now = records.microseconds(request.emulator.clock.now())

    def write(connection: sqlite3.Connection) -> Json:
        project = projects.resolve(connection, project_name)
        enablement.require(connection, project, "storage.googleapis.com")
        if buckets.find(connection, name) is not None:
            raise conflict("Your previous request to create the named bucket succeeded and you already own it.")
        projects.ensure(connection, project.id)
        fields = merged(buckets.defaults(now), settings)
        buckets.insert(connection, name, project.number, buckets.complete(fields, None, now))
        return buckets.get(connection, name, base=request.base)

    return reply(request, await request.emulator.store.write(write))


async def get(request: ApiRequest) -> Response:
    """Return a bucket."""
    name = request.fields["bucket"]
    bucket = request.emulator.store.read(lambda connection: buckets.get(connection, name, base=request.base))
    try:
        Preconditions.of(request.query_params, request.headers).check_bucket(bucket, reading=True)
    except NotModifiedError:
        return Response(status_code=304)
    return reply(request, bucket)


async def list_buckets(request: ApiRequest) -> Response:
    """List a project's buckets by name."""
    parameters = request.query_params
    project_name = parameters.get("project")
    if not project_name:
        raise bad_request("Required parameter: project", "required")
    limit = integer(parameters, "maxResults") or 1000
    prefix, token = parameters.get("prefix", ""), parameters.get("pageToken", "")

    def read(connection: sqlite3.Connection) -> list[Json]:
        project = projects.resolve(connection, project_name)
        enablement.require(connection, project, "storage.googleapis.com")
        rows = connection.execute(
            "SELECT name FROM storage_buckets WHERE project = ? AND name >= ? AND substr(name, 1, ?) = ?"
            " ORDER BY name LIMIT ?",
            (project.number, max(prefix, token), len(prefix), prefix, limit + 1),
        ).fetchall()
        return [buckets.get(connection, row[0], base=request.base) for row in rows]

    found = request.emulator.store.read(read)
    answer: Json = {"kind": "storage#buckets"}
    if found[:limit]:
        answer["items"] = found[:limit]
    if len(found) > limit:
        answer["nextPageToken"] = found[limit]["name"]
    return reply(request, answer)


async def patch(request: ApiRequest) -> Response:
    """Merge fields into a bucket; null deletes one."""
    return await _change(request, replace=False)


async def update(request: ApiRequest) -> Response:
    """Replace a bucket's settings."""
    return await _change(request, replace=True)


async def _change(request: ApiRequest, *, replace: bool) -> Response:
    name = request.fields["bucket"]
    settings = checked(await request.read_json())
    preconditions = Preconditions.of(request.query_params, request.headers)
    now = records.microseconds(request.emulator.clock.now())

    def write(connection: sqlite3.Connection) -> Json:
        before = buckets.get(connection, name)
        preconditions.check_bucket(before)
        stored = buckets.require(connection, name)
        if str(settings.get("location", stored["location"])).upper() != stored["location"]:
            raise bad_request("The location of a bucket cannot be changed.")
        if replace:
            base = {
                **buckets.defaults(now),
                **{key: stored[key] for key in ("timeCreated", "location", "storageClass")},
            }
        else:
            base = stored
        after = buckets.complete(merged(base, settings), before, now)
        buckets.update(connection, name, after, now)
        return buckets.get(connection, name, base=request.base)

    return reply(request, await request.emulator.store.write(write))


async def delete(request: ApiRequest) -> Response:
    """Delete an empty bucket; soft-deleted objects do not keep it."""
    name = request.fields["bucket"]
    preconditions = Preconditions.of(request.query_params, request.headers)

    def write(connection: sqlite3.Connection) -> list[str]:
        bucket = buckets.get(connection, name)
        preconditions.check_bucket(bucket)
        full = connection.execute(
            "SELECT 1 FROM storage_objects WHERE bucket = ? AND state != 'soft' LIMIT 1", (name,)
        ).fetchone()
        if full:
            raise conflict("The bucket you tried to delete is not empty.")
        doomed = objects.purge(connection, records.select(connection, "bucket = ?", (name,)))
        rows = connection.execute(
            "SELECT blob FROM storage_uploads WHERE bucket = :bucket UNION SELECT blob FROM storage_parts"
            " WHERE upload IN (SELECT id FROM storage_uploads WHERE bucket = :bucket)",
            {"bucket": name},
        ).fetchall()
        connection.execute(
            "DELETE FROM storage_parts WHERE upload IN (SELECT id FROM storage_uploads WHERE bucket = ?)", (name,)
        )
        connection.execute("DELETE FROM storage_uploads WHERE bucket = ?", (name,))
        connection.execute("DELETE FROM storage_buckets WHERE name = ?", (name,))
        return doomed + [row[0] for row in rows if not objects.is_referenced(connection, row[0])]

    blobs.unlink(request.emulator, await request.emulator.store.write(write))
    return Response(status_code=204)


async def storage_layout(request: ApiRequest) -> Response:
    """Return where a bucket lies and whether it has folders."""
    name = request.fields["bucket"]
    bucket = request.emulator.store.read(lambda connection: buckets.get(connection, name))
    layout: Json = {
        "kind": "storage#storageLayout",
        "bucket": name,
        "location": bucket["location"],
        "locationType": bucket["locationType"],
    }
    if "hierarchicalNamespace" in bucket:
        layout["hierarchicalNamespace"] = bucket["hierarchicalNamespace"]
    return reply(request, layout)


async def anywhere_caches(request: ApiRequest) -> Response:
    """List a bucket's caches: there are none, since this server cannot make one."""
    name = request.fields["bucket"]
    request.emulator.store.read(lambda connection: buckets.require(connection, name))
    return json_response({"kind": "storage#anywhereCaches"})


async def service_account(request: ApiRequest) -> Response:
    """Return the service agent with which Storage acts in a project."""
    name = request.fields["project"]
    project = request.emulator.store.read(lambda connection: projects.resolve(connection, name))
    email = f"service-{project.number}@gs-project-accounts.iam.gserviceaccount.com"
    return reply(request, {"kind": "storage#serviceAccount", "email_address": email})
