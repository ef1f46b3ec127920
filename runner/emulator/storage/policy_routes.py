"""IAM policies of buckets."""

from __future__ import annotations

import sqlite3
from typing import Any

from runner.emulator.fault_routes import of_retry_test
from runner.emulator.iam import policies
from runner.emulator.routing import ApiRequest
from runner.emulator.storage import access, buckets
from runner.emulator.storage.access_lists import is_uniform, refuse_public
from runner.emulator.storage.faults import bad_request, condition_not_met
from runner.emulator.storage.parameters import integer
from runner.emulator.storage.replies import reading, writing

Json = dict[str, Any]

_KNOWN = {"kind", "resourceId", "version", "etag", "bindings"}
_PERMISSION_PREFIXES = (
    "storage.anywhereCaches.",
    "storage.bucketOperations.",
    "storage.buckets.",
    "storage.folders.",
    "storage.managedFolders.",
    "storage.multipartUploads.",
    "storage.objects.",
)


@reading
def get_policy(connection: sqlite3.Connection, request: ApiRequest) -> Json:
    """Return a bucket's policy."""
    wanted = integer(request.query_params, "optionsRequestedPolicyVersion")
    if wanted is not None and wanted not in (1, 3):
        raise bad_request(f"Requested policy version ({wanted}) is not supported.")
    return buckets.policy(connection, request.fields["bucket"])


@writing
def set_policy(connection: sqlite3.Connection, request: ApiRequest) -> Json:
    """Replace a bucket's policy, which must not have changed since it was read."""
    name = request.fields["bucket"]
    body = request.document
    for key in body:
        if key not in _KNOWN:
            raise bad_request(f'Invalid JSON payload received. Unknown name "{key}": Cannot find field.')
    stored = buckets.policy(connection, name)
    if body.get("etag") and body["etag"] != stored["etag"]:
        raise condition_not_met()
    policies.validate(connection, body)
    bindings = []
    for binding in body.get("bindings") or []:
        members = sorted(set(binding.get("members", [])))
        if members:
            bindings.append({**binding, "members": members})
    home = buckets.require(connection, name)
    refuse_public(home, [member for binding in bindings for member in binding["members"]])
    conditional = any("condition" in binding for binding in bindings)
    if conditional and not is_uniform(home):
        message = "Setting an IAM condition requires that uniform bucket-level access is enabled on the bucket."
        raise condition_not_met(message)
    return buckets.set_policy(connection, name, bindings, 3 if conditional else 1)


@reading
def test_permissions(connection: sqlite3.Connection, request: ApiRequest) -> Json:
    """Return the requested permissions that the caller has."""
    asked = request.query_params.getlist("permissions")
    if not asked and not of_retry_test(request):
        raise bad_request("Required parameter: permissions", "required")
    for permission in asked:
        if not permission.startswith(_PERMISSION_PREFIXES):
            raise bad_request(f"Invalid permission: {permission}")
    permissions = access.held(connection, request, asked)
    return {"kind": "storage#testIamPermissionsResponse", **({"permissions": permissions} if permissions else {})}
