"""The sender of a request, and its permissions."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any

from runner.emulator.errors import ApiError, invalid
from runner.emulator.iam import assertions, policies, tokens
from runner.emulator.iam.assertions import InvalidAssertionError
from runner.emulator.routing import ApiRequest


def member(connection: sqlite3.Connection, request: ApiRequest) -> str | None:
    """Return the caller in the form of policies; None for the developer, who has all permissions."""
    token = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
    if not token:
        return None
    clock = request.emulator.clock
    try:
        email = tokens.owner(connection, token, clock.now()) or assertions.sender(connection, token, clock.of_clients())
    except InvalidAssertionError as error:
        raise tokens.refused() from error
    return f"serviceAccount:{email}" if email else None


def held(
    connection: sqlite3.Connection, request: ApiRequest, chain: Iterable[dict[str, Any]], permissions: Any
) -> list[str]:
    """Return those of the given permissions that the caller has by any policy of `chain`.

    Raises:
        ApiError: INVALID_ARGUMENT if `permissions` is not a list of permissions, or has a wildcard.
    """
    if not isinstance(permissions, list) or not all(isinstance(name, str) for name in permissions):
        raise invalid("Invalid value at 'permissions': not a list of strings.")
    for name in permissions:
        if "*" in name or name.count(".") < 2:
            raise invalid(f"Permission {name} is not valid for this resource.")
    caller = member(connection, request)
    if caller is None:
        return permissions
    chain = list(chain)
    return [
        name
        for name in permissions
        if any(policies.has_permission(connection, policy, caller, name) for policy in chain)
    ]


def permissions(connection: sqlite3.Connection, request: ApiRequest, chain: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return the response of `testIamPermissions`: those requested permissions that `held` finds."""
    asked = request.query_params.getlist("permissions") or request.document.get("permissions")
    found = held(connection, request, chain, asked)
    return {"permissions": found} if found else {}


def require(
    connection: sqlite3.Connection,
    request: ApiRequest,
    chain: Iterable[dict[str, Any]],
    permission: str,
    resource: str,
) -> None:
    """Return normally if the caller has a permission by any policy of `chain`. Raises ApiError PERMISSION_DENIED."""
    if not held(connection, request, chain, [permission]):
        raise denied(permission, resource)


def denied(permission: str, resource: str) -> ApiError:
    """Return the 403 for a caller without a permission."""
    return ApiError(
        "PERMISSION_DENIED",
        f"Permission '{permission}' denied on resource '//{permission.split('.')[0]}.googleapis.com/{resource}' "
        "(or it may not exist).",
        details=[
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": "IAM_PERMISSION_DENIED",
                "domain": "iam.googleapis.com",
                "metadata": {"permission": permission, "resource": resource},
            }
        ],
    )
