"""What a caller may do: asked only of those who show a token that this server issued to a service account.

Anybody else is the developer, who may do everything. Writing to the address of a resumable session, or through a
signed URL, needs no token: the address itself is the permission, as on the service.
"""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Iterable
from typing import Any

from starlette.responses import Response

from runner.emulator.cloudresourcemanager import projects
from runner.emulator.errors import ApiError
from runner.emulator.iam import callers, policies
from runner.emulator.routing import ApiRequest, Handler
from runner.emulator.storage import buckets

Need = tuple[str, str, str]
"""Permission, field with the bucket's name, field with the object's name ("" for the bucket itself)."""


def guarded(handler: Handler, *needs: str | Need) -> Handler:
    """Return the handler behind a check. A need given as text is on the path's own bucket, and object if it has one."""
    wanted = [(need, "bucket", "object") if isinstance(need, str) else need for need in needs]

    @functools.wraps(handler)
    async def wrapped(request: ApiRequest) -> Response:
        if "authorization" in request.headers and not _goes_to_session(request):
            request.emulator.store.read(lambda connection: _require(connection, request, wanted))
        return await handler(request)

    return wrapped


def _goes_to_session(request: ApiRequest) -> bool:
    return "upload_id" in request.query_params and request.scope["path"].startswith("/upload/")


def _require(connection: sqlite3.Connection, request: ApiRequest, needs: Iterable[Need]) -> None:
    caller = callers.member(connection, request)
    if caller is None:
        return
    for permission, bucket_field, object_field in needs:
        bucket = request.fields.get(bucket_field, "")
        name = request.fields.get(object_field) or request.query_params.get("name", "")
        resource = f"projects/_/buckets/{bucket}"
        if permission.startswith("storage.objects."):
            resource += f"/objects/{name}"
        if not any(
            policies.has_permission(policy, caller, permission, resource=resource)
            for policy in _chain(connection, request, bucket)
        ):
            raise ApiError(
                "PERMISSION_DENIED",
                f"{caller.partition(':')[2]} does not have {permission} access to the Google Cloud Storage "
                f"{'object' if permission.startswith('storage.objects.') else 'bucket'}. "
                f"Permission '{permission}' denied on resource (or it may not exist).",
            )


def held(connection: sqlite3.Connection, request: ApiRequest, permissions: list[str]) -> list[str]:
    """Return those of the permissions that the caller has on the path's bucket. Raises ApiError NOT_FOUND."""
    bucket = request.fields["bucket"]
    buckets.require(connection, bucket)
    caller = callers.member(connection, request)
    if caller is None:
        return permissions
    chain = _chain(connection, request, bucket)
    resource = f"projects/_/buckets/{bucket}"
    return [
        name
        for name in permissions
        if any(policies.has_permission(policy, caller, name, resource=resource) for policy in chain)
    ]


def _chain(connection: sqlite3.Connection, request: ApiRequest, bucket: str) -> list[dict[str, Any]]:
    """Return the policies that count: the bucket's and its project's, or that of the project named in the request.

    Raises ApiError NOT_FOUND.
    """
    if not bucket:
        project = request.query_params.get("project") or request.fields.get("project", "")
        return [projects.get_policy(connection, projects.resolve(connection, project))] if project else []
    found = buckets.get(connection, bucket)
    project = found["projectNumber"]
    return [
        buckets.policy(connection, bucket),
        projects.get_policy(connection, projects.resolve(connection, project)),
    ]
