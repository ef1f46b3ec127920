"""Methods on buckets (https://cloud.google.com/storage/docs/json_api/v1/buckets)."""

from __future__ import annotations

import sqlite3
from typing import Any

from starlette.responses import Response

from runner.emulator import enablement, projects
from runner.emulator.fault_routes import of_retry_test
from runner.emulator.routing import ApiRequest
from runner.emulator.storage import (
    access_lists,
    acl_routes,
    blobs,
    bucket_lists,
    buckets,
    naming,
    object_views,
    objects,
    protection,
    records,
)
from runner.emulator.storage.bucket_settings import checked
from runner.emulator.storage.faults import NotModifiedError, bad_request, conflict
from runner.emulator.storage.metadata import merged
from runner.emulator.storage.parameters import boolean, count
from runner.emulator.storage.preconditions import Preconditions
from runner.emulator.storage.replies import reading, reply, writing

Json = dict[str, Any]

_KEPT = ("timeCreated", "location", "storageClass", "generation", "defaultObjectAcl")
"""Fields that an update does not change unless it names them."""


async def insert(request: ApiRequest) -> Response:
    """Create a bucket."""
    project_name = request.query_params.get("project")
    if not project_name:
        raise bad_request("Required parameter: project", "required")
    body = await request.read_json()
    return reply(request, await create(request, project_name, body, _lists_of(request, body)))


async def create(request: ApiRequest, project_name: str, body: Json, lists: Json) -> Json:
    """Create a bucket of a project with these settings and access control lists; return its resource.

    Raises ApiError 400, 403, 409.
    """
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
        _set_lists(connection, name, lists, now)
        return _shown(connection, request, name, full=bool(lists))

    return await request.emulator.store.write(write)


async def get(request: ApiRequest) -> Response:
    """Return a bucket."""
    name = request.fields["bucket"]
    bucket = request.emulator.store.read(lambda connection: _shown(connection, request, name))
    try:
        Preconditions.of(request.query_params, request.headers).check_bucket(bucket, reading=True)
    except NotModifiedError:
        return Response(status_code=304)
    return reply(request, bucket)


@reading
def list_buckets(connection: sqlite3.Connection, request: ApiRequest) -> Json:
    """List a project's buckets by name."""
    parameters = request.query_params
    project_name = parameters.get("project")
    if not project_name:
        raise bad_request("Required parameter: project", "required")
    limit = min(count(parameters, "maxResults") or 1000, 1000)
    if boolean(parameters, "softDeleted"):
        return {"kind": "storage#buckets"}  # deleted buckets do not exist here: none can be restored
    prefix, token = parameters.get("prefix", ""), parameters.get("pageToken", "")
    project = projects.resolve(connection, project_name)
    enablement.require(connection, project, "storage.googleapis.com")
    rows = connection.execute(
        "SELECT name FROM storage_buckets WHERE project = ? AND name >= ? AND substr(name, 1, ?) = ?"
        " ORDER BY name LIMIT ?",
        (project.number, max(prefix, token), len(prefix), prefix, limit + 1),
    ).fetchall()
    answer: Json = {"kind": "storage#buckets"}
    if rows[:limit]:
        answer["items"] = [_shown(connection, request, row[0]) for row in rows[:limit]]
    if len(rows) > limit:
        answer["nextPageToken"] = rows[limit][0]
    return answer


@writing
def patch(connection: sqlite3.Connection, request: ApiRequest) -> Json:
    """Merge fields into a bucket; null deletes one."""
    return _changed(connection, request, replace=False)


@writing
def update(connection: sqlite3.Connection, request: ApiRequest) -> Json:
    """Replace a bucket's settings."""
    return _changed(connection, request, replace=True)


def _changed(connection: sqlite3.Connection, request: ApiRequest, *, replace: bool) -> Json:
    name, body = request.fields["bucket"], request.document
    settings, lists = checked(body), _lists_of(request, body)
    preconditions = Preconditions.of(request.query_params, request.headers)
    now = records.microseconds(request.emulator.clock.now())
    before = buckets.get(connection, name)
    preconditions.check_bucket(before)
    stored = buckets.require(connection, name)
    if str(settings.get("location", stored["location"])).upper() != stored["location"]:
        raise bad_request("The location of a bucket cannot be changed.")
    kept = {key: stored[key] for key in _KEPT if key in stored}
    base = {**buckets.defaults(now), **kept} if replace else stored
    after = buckets.complete(merged(base, settings), before, now)
    protection.check_policy(name, stored, after)
    buckets.update(connection, name, after, now)
    _set_lists(connection, name, lists, now)
    return _shown(connection, request, name, full=True)


async def delete(request: ApiRequest) -> Response:
    """Delete an empty bucket; soft-deleted objects do not count."""
    preconditions = Preconditions.of(request.query_params, request.headers)
    await remove(request, request.fields["bucket"], preconditions)
    return Response(status_code=204)


async def remove(request: ApiRequest, name: str, preconditions: Preconditions) -> None:
    """Delete an empty bucket. Raises ApiError NOT_FOUND, 409, 412."""

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
        bucket_lists.forget(connection, name)
        return doomed + [row[0] for row in rows if not objects.is_referenced(connection, row[0])]

    blobs.unlink(request.emulator, await request.emulator.store.write(write))


@writing
def lock_retention_policy(connection: sqlite3.Connection, request: ApiRequest) -> Json:
    """Lock a bucket's retention policy, which can then only become longer."""
    name = request.fields["bucket"]
    preconditions = Preconditions.of(request.query_params, request.headers)
    if preconditions.metageneration_match is None:
        raise bad_request("Required parameter: ifMetagenerationMatch", "required")
    preconditions.check_bucket(buckets.get(connection, name))
    stored = buckets.require(connection, name)
    if stored.get("retentionPolicy"):
        stored["retentionPolicy"]["isLocked"] = True
    elif not of_retry_test(request):
        raise bad_request(f"Bucket {name} does not have a Retention Policy.", "invalid")
    buckets.update(connection, name, stored, records.microseconds(request.emulator.clock.now()))
    return _shown(connection, request, name)


@reading
def storage_layout(connection: sqlite3.Connection, request: ApiRequest) -> Json:
    """Return a bucket's location and whether it has folders."""
    name = request.fields["bucket"]
    bucket = buckets.get(connection, name)
    shown: Json = {key: bucket[key] for key in ("location", "locationType", "hierarchicalNamespace") if key in bucket}
    return {"kind": "storage#storageLayout", "bucket": name, **shown}


@reading
def service_account(connection: sqlite3.Connection, request: ApiRequest) -> Json:
    """Return the service agent of Storage in a project."""
    project = projects.resolve(connection, request.fields["project"])
    email = f"service-{project.number}@gs-project-accounts.iam.gserviceaccount.com"
    return {"kind": "storage#serviceAccount", "email_address": email}


def _shown(connection: sqlite3.Connection, request: ApiRequest, name: str, *, full: bool = False) -> Json:
    """Return a bucket's resource in the requested form; `full` is the default."""
    bucket = buckets.get(connection, name, base=request.base)
    default = bucket.pop("defaultObjectAcl", None)
    if object_views.is_full(request, default=full) and not access_lists.is_uniform(bucket):
        entries = access_lists.of_bucket(connection, name)
        default = access_lists.of_new_objects(connection, name) if default is None else default
        bucket["acl"] = [acl_routes.bucket_entry(request.base, name, entry) for entry in entries]
        bucket["defaultObjectAcl"] = [acl_routes.default_entry(entry) for entry in default]
        bucket["owner"] = {"entity": f"project-owners-{bucket['projectNumber']}"}
    return bucket


def _lists_of(request: ApiRequest, body: Json) -> Json:
    """Return the access control lists in a request: entries, or the names of predefined ones."""
    parameters = request.query_params
    given = {
        "acl": parameters.get("predefinedAcl") or body.get("acl"),
        "defaultObjectAcl": parameters.get("predefinedDefaultObjectAcl") or body.get("defaultObjectAcl"),
    }
    return {key: value for key, value in given.items() if value is not None}


def _set_lists(connection: sqlite3.Connection, name: str, lists: Json, now: int) -> None:
    """Set a bucket's lists. Raises ApiError 400, also with uniform access, and 412."""
    if not lists:
        return
    home = buckets.get(connection, name)
    if access_lists.is_uniform(home):
        message = "Cannot use ACL API to update bucket policy when uniform bucket-level access is enabled."
        raise bad_request(f"{message} {access_lists.MORE}")
    entries = {}
    for key, given in lists.items():
        roles = access_lists.BUCKET_ROLES if key == "acl" else access_lists.OBJECT_ROLES
        entries[key] = access_lists.given_entries(connection, home, given, roles)
    if "acl" in entries:
        access_lists.set_of_bucket(connection, name, entries["acl"])
    if "defaultObjectAcl" in entries:
        stored = {**buckets.require(connection, name), "defaultObjectAcl": entries["defaultObjectAcl"]}
        connection.execute("UPDATE storage_buckets SET body = ? WHERE name = ?", (buckets.dump(stored), name))
