"""Allow policies: evaluation, validation and read-modify-write."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import sqlite3
from typing import Any

from runner.emulator import store
from runner.emulator.errors import ApiError, invalid
from runner.emulator.iam import accounts
from runner.emulator.iam.roles import ROLES

CUSTOM_ROLE = "custom-role"
"""Kind of document of custom roles."""
_MEMBER = re.compile(
    r"(?:allUsers|allAuthenticatedUsers"
    r"|(?:user|group|serviceAccount):[^@\s:]+@[a-z0-9.-]+"
    r"|serviceAccount:[a-z0-9.:-]+\.svc\.id\.goog\[[^\]]+\]"
    r"|domain:[a-z0-9.-]+"
    r"|project(?:Owner|Editor|Viewer):[a-z0-9.:-]+"
    r"|deleted:(?:user|group|serviceAccount):[^?\s]+\?uid=\d+"
    r"|principal://iam\.googleapis\.com/(?:projects/\d+/)?locations/global/work(?:loadIdentity|force)Pools/[^/\s]+/subject/\S+"
    r"|principalSet://iam\.googleapis\.com/(?:projects/\d+/)?locations/global/work(?:loadIdentity|force)Pools/[^/\s]+/"
    r"(?:\*|(?:group|attribute\.\w+|namespace|kubernetes\.\w+)/\S+)"
    r"|principal(?:Set)?://(?:goog|cloudresourcemanager\.googleapis\.com)/\S+)\Z"
)
_KINDS = re.compile(r"(?:user|group|serviceAccount|domain|project(?:Owner|Editor|Viewer)|deleted):")
_ROLE = re.compile(r"(?:roles/[A-Za-z0-9_.]+|(?:projects|organizations)/[^/\s]+/roles/[A-Za-z0-9_.]+)\Z")
_STARTS_WITH = re.compile(r"""\s*resource\.name\.startsWith\(\s*(?:"([^"\\]*)"|'([^'\\]*)')\s*\)\s*\Z""")


_STANDARD = str.maketrans("-_", "+/")


def new_etag() -> str:
    """Return a new unique etag: base64 of 8 random bytes, as at Google."""
    return base64.b64encode(secrets.token_bytes(8)).decode()


def empty(seed: str) -> dict[str, Any]:
    """Return the policy of a resource without one; `seed` makes its etag equal in every read."""
    etag = base64.b64encode(hashlib.sha256(seed.encode()).digest()[:8]).decode()
    return {"version": 1, "etag": etag}


def permissions_of(connection: sqlite3.Connection, role: str) -> frozenset[str]:
    """Return the permissions of a role, predefined or custom; none for a deleted role."""
    if role.startswith("roles/"):
        return ROLES.get(role, frozenset())
    made = store.find(connection, CUSTOM_ROLE, role)
    return frozenset() if made is None or made.get("deleted") else frozenset(made.get("includedPermissions", []))


def has_permission(
    connection: sqlite3.Connection, policy: dict[str, Any], member: str, permission: str, *, resource: str = ""
) -> bool:
    """Return whether a policy grants a permission to a member (`serviceAccount:EMAIL`).

    A binding with a condition grants only if the emulator understands the condition, which is
    `resource.name.startsWith("…")` on the full `resource` name; any other condition grants nothing.
    """
    subjects = {member, "allUsers", "allAuthenticatedUsers"}
    for binding in policy.get("bindings", []):
        if subjects.isdisjoint(binding.get("members", [])):
            continue
        if permission not in permissions_of(connection, binding.get("role", "")):
            continue
        if _condition_holds(binding.get("condition"), resource):
            return True
    return False


def _condition_holds(condition: dict[str, Any] | None, resource: str) -> bool:
    if not condition:
        return True
    match = _STARTS_WITH.match(str(condition.get("expression", "")))
    if match is None:
        return False
    prefix = match.group(1) if match.group(1) is not None else match.group(2)
    return bool(resource) and resource.startswith(prefix)


def validate(connection: sqlite3.Connection, policy: Any) -> None:
    """Check a policy before it is stored.

    A deleted account is `deleted:serviceAccount:…` in a policy, and can stay there.

    Raises:
        ApiError: INVALID_ARGUMENT for invalid bindings, and for a service account that does not exist, as at Google
            before a service agent is created.
    """
    if not isinstance(policy, dict):
        raise invalid("Invalid value at 'policy': not an object.")
    bindings = policy.get("bindings", [])
    if not isinstance(bindings, list):
        raise invalid("Invalid value at 'policy.bindings': not a list.")
    version = policy.get("version", 1)
    if version not in (0, 1, 2, 3):
        raise invalid(f"Invalid policy version {version!r}.")
    for binding in bindings:
        for member in _members(binding, version):
            kind, _, email = member.partition(":")
            if kind != "serviceAccount" or "[" in email:
                continue
            if not accounts.exists(connection, email):
                raise invalid(f"Service account {email} does not exist.")


def _members(binding: Any, version: int) -> list[str]:
    """Return the validated members of a binding."""
    if not isinstance(binding, dict):
        raise invalid("Invalid value at 'policy.bindings': not an object.")
    role = binding.get("role", "")
    if not isinstance(role, str) or not _ROLE.match(role):
        raise invalid(f"Role ({role}) does not exist in the resource's hierarchy.")
    condition = binding.get("condition")
    if condition is not None:
        if not isinstance(condition, dict) or not condition.get("expression"):
            raise invalid("The condition of a binding must have an expression.")
        if version != 3:
            raise invalid("Specify policy version 3 to use conditional role bindings.")
    members = binding.get("members", [])
    if not isinstance(members, list):
        raise invalid("Invalid value at 'policy.bindings.members': not a list.")
    for member in members:
        if not isinstance(member, str) or not _MEMBER.match(member):
            if isinstance(member, str) and not _KINDS.match(member):
                raise invalid(
                    f"The member {member} is of an unknown type. Please set a valid type prefix for the member."
                )
            raise invalid(f"Invalid argument: '{member}' is not a valid member of an IAM policy.")
    return members


def stored(connection: sqlite3.Connection, kind: str, name: str) -> dict[str, Any]:
    """Return the policy of a resource, from documents of this kind."""
    return store.find(connection, kind, name) or empty(name)


def replace(connection: sqlite3.Connection, kind: str, name: str, body: dict[str, Any]) -> dict[str, Any]:
    """Apply the body of a `setIamPolicy`; return the policy. Raises ApiError like `replaced`."""
    before = stored(connection, kind, name)
    after = replaced(connection, before, body.get("policy", {}), mask=body.get("updateMask", ""))
    return store.put(connection, kind, name, after)


def replaced(connection: sqlite3.Connection, stored: dict[str, Any], policy: Any, *, mask: str = "") -> dict[str, Any]:
    """Return the policy to store: `policy` over `stored`, validated, with a new etag.

    `mask` names the fields to take, separated by commas; empty means `bindings,etag`. Raises ApiError ABORTED (409) for
    a stale etag, and INVALID_ARGUMENT like `validate`.
    """
    validate(connection, policy)
    given = policy.get("etag")
    # Bytes in JSON can use either alphabet of base64: gcloud sends the URL-safe one.
    if given and str(given).translate(_STANDARD) != stored.get("etag"):
        raise ApiError(
            "ABORTED",
            "There were concurrent policy changes. Please retry the whole read-modify-write with exponential backoff.",
        )
    fields = {name.strip() for name in mask.split(",") if name.strip()} or {"bindings", "etag"}
    result = dict(stored)
    for name in ("bindings", "auditConfigs"):
        if name in fields or (name == "auditConfigs" and "audit_configs" in fields):
            result.pop(name, None)
            if policy.get(name):
                result[name] = [_with_members(item) for item in policy[name]]
    conditional = any("condition" in binding for binding in result.get("bindings", []))
    result["version"] = 3 if conditional else 1
    result["etag"] = new_etag()
    return result


def _with_members(item: dict[str, Any]) -> dict[str, Any]:
    """Return the binding with unique members in order, as stored by Google."""
    if "members" not in item:
        return item
    return {**item, "members": sorted(set(item["members"]))}
