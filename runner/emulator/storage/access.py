"""The permissions of a caller, checked only for tokens that this server issued to a service account.

All other callers are the developer, who has all permissions. Writing to the address of a resumable session, or through
a signed URL, needs no token: the address itself is the permission, as on the service.
"""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Iterable
from typing import Any

from starlette.responses import Response

from runner.emulator import projects
from runner.emulator.errors import ApiError
from runner.emulator.iam import callers, policies, project_policies
from runner.emulator.routing import ApiRequest, Handler
from runner.emulator.storage import access_lists, buckets, records
from runner.emulator.storage.faults import bad_request
from runner.emulator.storage.signatures import SIGNER

Need = tuple[str, str, str]
"""Permission, field with the bucket's name, field with the object's name ("" for the bucket itself)."""


def guarded(handler: Handler, *needs: str | Need) -> Handler:
    """Return the handler with a check.

    A need given as text is for the path's bucket, and its object if there is one.
    """
    wanted = [(need, "bucket", "object") if isinstance(need, str) else need for need in needs]

    @functools.wraps(handler)
    async def wrapped(request: ApiRequest) -> Response:
        if ("authorization" in request.headers or SIGNER in request.scope) and not _goes_to_session(request):
            request.emulator.store.read(lambda connection: _require(connection, request, wanted))
        return await handler(request)

    return wrapped


def require_object(request: ApiRequest, permission: str, name: str) -> None:
    """Check a permission on an object in the path's bucket whose name is in the body. Raises ApiError 403."""
    if "authorization" in request.headers or SIGNER in request.scope:
        needs = [(permission, "bucket", "")]
        request.emulator.store.read(lambda connection: _require(connection, request, needs, name))


def _goes_to_session(request: ApiRequest) -> bool:
    return "upload_id" in request.query_params and request.scope["path"].startswith("/upload/")


def _require(connection: sqlite3.Connection, request: ApiRequest, needs: Iterable[Need], named: str = "") -> None:
    caller = _caller(connection, request)
    if caller is None:
        return
    _refuse_free_riders(connection, request)
    for permission, bucket_field, object_field in needs:
        bucket = request.fields.get(bucket_field, "")
        name = named or request.fields.get(object_field) or request.query_params.get("name", "")
        _require_one(connection, request, caller, permission, bucket, name)


def _require_one(
    connection: sqlite3.Connection,
    request: ApiRequest,
    caller: str,
    permission: str,
    bucket: str,
    name: str,
    project: str = "",
) -> None:
    on_object = permission.startswith("storage.objects.")
    resource = f"projects/_/buckets/{bucket}" + (f"/objects/{name}" if on_object else "")
    if any(
        policies.has_permission(connection, policy, caller, permission, resource=resource)
        for policy in _chain(connection, request, bucket, project)
    ) or _listed(connection, caller, permission, bucket, name):
        return
    raise ApiError(
        "PERMISSION_DENIED",
        f"{caller.partition(':')[2]} does not have {permission} access to the Google Cloud Storage "
        f"{'object' if on_object else 'bucket'}. Permission '{permission}' denied on resource (or it may not exist).",
    )


def _caller(connection: sqlite3.Connection, request: ApiRequest) -> str | None:
    """Return the caller, from a token or a signature; None for the developer."""
    signer = request.scope.get(SIGNER)
    return f"serviceAccount:{signer}" if signer else callers.member(connection, request)


def require_on(
    connection: sqlite3.Connection,
    request: ApiRequest,
    permission: str,
    *,
    bucket: str = "",
    name: str = "",
    project: str = "",
) -> None:
    """Return normally if the caller has a permission that does not depend only on the path. Raises ApiError 403.

    Args:
        permission: for example `storage.objects.create`.
        bucket: its name; "" for a permission on the project.
        name: name of the object, for a permission on an object.
        project: ID or number, without a bucket.
    """
    caller = _caller(connection, request)
    if caller is not None:
        _require_one(connection, request, caller, permission, bucket, name, project)


def _listed(connection: sqlite3.Connection, caller: str, permission: str, bucket: str, name: str) -> bool:
    """Return whether the access control list of an object grants a permission."""
    roles = _ROLES_OF.get(permission)
    record = records.load(connection, bucket, name) if roles else None
    if record is None or '"acl"' not in record.body or access_lists.is_uniform(buckets.require(connection, bucket)):
        return False
    members = (caller, "allUsers", "allAuthenticatedUsers")
    return any(
        entry["role"] in (roles or ()) and access_lists.member_of(entry["entity"]) in members
        for entry in record.settings["acl"]
    )


_ROLES_OF = {
    "storage.objects.get": ("READER", "OWNER"),
    "storage.objects.update": ("OWNER",),
    "storage.objects.getIamPolicy": ("OWNER",),
    "storage.objects.setIamPolicy": ("OWNER",),
}
"""Maps permissions that an object's list can grant to roles."""


def _refuse_free_riders(connection: sqlite3.Connection, request: ApiRequest) -> None:
    """Refuse a caller that names no billing project for a bucket with requester pays. Raises ApiError 400."""
    bucket = request.fields.get("bucket", "")
    if not bucket or request.query_params.get("userProject"):
        return
    found = buckets.find(connection, bucket)
    if found is not None and (found.get("billing") or {}).get("requesterPays"):
        raise bad_request("Bucket is a requester pays bucket but no user project provided.", "required")


def held(connection: sqlite3.Connection, request: ApiRequest, permissions: list[str]) -> list[str]:
    """Return those of the permissions that the caller has on the path's bucket. Raises ApiError NOT_FOUND."""
    bucket = request.fields["bucket"]
    buckets.require(connection, bucket)
    caller = _caller(connection, request)
    if caller is None:
        return permissions
    chain = _chain(connection, request, bucket)
    resource = f"projects/_/buckets/{bucket}"
    return [
        name
        for name in permissions
        if any(policies.has_permission(connection, policy, caller, name, resource=resource) for policy in chain)
    ]


def _chain(connection: sqlite3.Connection, request: ApiRequest, bucket: str, project: str = "") -> list[dict[str, Any]]:
    """Return the policies that apply: the bucket's and its project's, or that of the project in the request.

    Raises ApiError NOT_FOUND.
    """
    if not bucket:
        project = project or request.query_params.get("project") or request.fields.get("project", "")
        return [project_policies.get_policy(connection, projects.resolve(connection, project))] if project else []
    found = buckets.get(connection, bucket)
    project = found["projectNumber"]
    return [
        buckets.policy(connection, bucket),
        project_policies.get_policy(connection, projects.resolve(connection, project)),
    ]
