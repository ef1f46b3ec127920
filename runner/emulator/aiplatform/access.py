"""Check the access of service accounts to the buckets that a job needs."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

from runner.emulator import projects
from runner.emulator.errors import ApiError
from runner.emulator.iam import policies, project_policies
from runner.emulator.storage import buckets

READ = ("storage.objects.get", "storage.objects.list")
WRITE = ("storage.objects.create", "storage.objects.get", "storage.objects.list", "storage.objects.delete")
"""Publishing reads and replaces existing objects, so it needs more than `create`."""


@dataclass(frozen=True, slots=True)
class Need:
    """Permissions that are needed on the objects of one bucket."""

    bucket: str
    object: str
    """Object or prefix in the bucket, for conditions in the policy and for the message."""
    permissions: tuple[str, ...]


def require(connection: sqlite3.Connection, principals: Iterable[str], needs: Iterable[Need]) -> None:
    """Check all needs for every account (by address).

    Raises:
        ApiError: NOT_FOUND for a bucket that does not exist; PERMISSION_DENIED with the account, permission and bucket
            in Cloud Storage's wording, and in its details.
    """
    accounts = tuple(principals)
    for need in needs:
        bucket = buckets.find(connection, need.bucket)
        if bucket is None:
            raise ApiError("NOT_FOUND", f"The specified bucket does not exist: gs://{need.bucket}")
        granted = [buckets.policy(connection, need.bucket), _project_policy(connection, str(bucket["projectNumber"]))]
        resource = f"projects/_/buckets/{need.bucket}/objects/{need.object}"
        for account in accounts:
            for permission in need.permissions:
                if not any(
                    policies.has_permission(
                        connection, policy, f"serviceAccount:{account}", permission, resource=resource
                    )
                    for policy in granted
                ):
                    raise _denied(account, permission, need)


def _project_policy(connection: sqlite3.Connection, number: str) -> dict[str, object]:
    try:
        return project_policies.get_policy(connection, projects.resolve(connection, number))
    except ApiError:
        return {}


def _denied(account: str, permission: str, need: Need) -> ApiError:
    resource = f"//storage.googleapis.com/projects/_/buckets/{need.bucket}"
    return ApiError(
        "PERMISSION_DENIED",
        f"{account} does not have {permission} access to the Google Cloud Storage bucket {need.bucket}. "
        f"Permission '{permission}' denied on resource '{resource}' (or it may not exist).",
        details=[
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": "IAM_PERMISSION_DENIED",
                "domain": "iam.googleapis.com",
                "metadata": {"permission": permission, "resource": resource, "principal": account},
            }
        ],
    )
