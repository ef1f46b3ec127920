"""Access control lists (https://cloud.google.com/storage/docs/access-control/lists).

A bucket's list is a view of the legacy roles in its IAM policy, as on the service. The lists of objects, and a bucket's
default list for new objects, are stored separately; if none was set, it is the project's.
"""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from runner.emulator.iam import accounts
from runner.emulator.storage import buckets
from runner.emulator.storage.faults import bad_request, condition_not_met

Json = dict[str, Any]
Entry = dict[str, str]
"""`entity` and `role`."""

MORE = "Read more at https://cloud.google.com/storage/docs/uniform-bucket-level-access"
_LEGACY = {
    "OWNER": "roles/storage.legacyBucketOwner",
    "WRITER": "roles/storage.legacyBucketWriter",
    "READER": "roles/storage.legacyBucketReader",
}
_PUBLIC = ("allUsers", "allAuthenticatedUsers")
_TEAMS = {"owners": "projectOwner", "editors": "projectEditor", "viewers": "projectViewer"}
_NAMES = {"user": "user", "serviceAccount": "user", "group": "group", "domain": "domain"}
_PREDEFINED: dict[str, list[Entry]] = {
    "private": [],
    "projectPrivate": [
        {"entity": "project-editors-{number}", "role": "OWNER"},
        {"entity": "project-viewers-{number}", "role": "READER"},
    ],
    "publicRead": [{"entity": "allUsers", "role": "READER"}],
    "authenticatedRead": [{"entity": "allAuthenticatedUsers", "role": "READER"}],
    "bucketOwnerRead": [{"entity": "project-owners-{number}", "role": "READER"}],
    "bucketOwnerFullControl": [],
}
"""Additional entries besides the project's owners
(https://cloud.google.com/storage/docs/access-control/lists#predefined)."""
_ONLY_BUCKETS: dict[str, list[Entry]] = {"publicReadWrite": [{"entity": "allUsers", "role": "WRITER"}]}
_NOT_BUCKETS = ("bucketOwnerRead", "bucketOwnerFullControl")
BUCKET_ROLES = ("OWNER", "WRITER", "READER")
OBJECT_ROLES = ("OWNER", "READER")


def is_uniform(home: Json) -> bool:
    """Return whether a bucket has uniform access, and therefore no lists."""
    return bool(home.get("iamConfiguration", {}).get("uniformBucketLevelAccess", {}).get("enabled"))


def predefined(name: str, number: str, *, for_bucket: bool = False) -> list[Entry]:
    """Return the entries of a predefined list in the project of this number. Raises ApiError 400."""
    known = {**_PREDEFINED, **(_ONLY_BUCKETS if for_bucket else {})}
    if name not in known or (for_bucket and name in _NOT_BUCKETS):
        raise bad_request(f"Invalid value for predefinedAcl: '{name}'", "invalidParameter")
    added = [{"entity": entry["entity"].format(number=number), "role": entry["role"]} for entry in known[name]]
    if any(entry["entity"] == f"project-owners-{number}" for entry in added):
        return added
    return [{"entity": f"project-owners-{number}", "role": "OWNER"}, *added]


def checked(connection: sqlite3.Connection, home: Json, entries: Any, roles: tuple[str, ...]) -> list[Entry]:
    """Return the entries in a request, one for each entity. Raises ApiError 400, 412."""
    if not isinstance(entries, list):
        raise bad_request("Invalid value for acl: not a list.")
    found: dict[str, Entry] = {}
    for entry in entries:
        entity = entry.get("entity") if isinstance(entry, dict) else None
        role = str(entry.get("role") or "").upper() if isinstance(entry, dict) else ""
        if not isinstance(entity, str) or not entity:
            raise bad_request("Required", "required")
        if role not in roles:
            raise bad_request(f"Invalid value for role: {json.dumps(entry.get('role'))}", "invalid")
        member = member_of(entity)
        if member.startswith("serviceAccount:") and not accounts.exists(connection, member.partition(":")[2]):
            raise bad_request(f"Unknown user email address: {member.partition(':')[2]}", "invalid")
        found[entity] = {"entity": entity, "role": role}
    refuse_public(home, found)
    return list(found.values())


def given_entries(connection: sqlite3.Connection, home: Json, given: Any, roles: tuple[str, ...]) -> list[Entry]:
    """Return the list in a request: entries, or the name of a predefined list. Raises ApiError 400, 412."""
    if not isinstance(given, str):
        return checked(connection, home, given, roles)
    entries = predefined(given, home["projectNumber"], for_bucket=roles == BUCKET_ROLES)
    refuse_public(home, [entry["entity"] for entry in entries])
    return entries


def refuse_public(home: Json, entities: Any) -> None:
    """Raise ApiError 412 for public entities, if the bucket prevents public access."""
    prevented = home.get("iamConfiguration", {}).get("publicAccessPrevention") == "enforced"
    if prevented and any(entity in _PUBLIC for entity in entities):
        raise condition_not_met(
            "The member bindings allUsers and allAuthenticatedUsers are not allowed since public access prevention is "
            "enforced."
        )


def member_of(entity: str) -> str:
    """Return the policy member for an entity. Raises ApiError 400."""
    kind, _, name = entity.partition("-")
    if entity in _PUBLIC:
        return entity
    if kind == "project":
        team, _, number = name.partition("-")
        if team in _TEAMS and number:
            return f"{_TEAMS[team]}:{number}"
    elif kind in ("user", "group", "domain") and name:
        return (
            f"serviceAccount:{name}" if kind == "user" and name.endswith(".gserviceaccount.com") else f"{kind}:{name}"
        )
    raise bad_request(f"Invalid value for entity: '{entity}'", "invalid")


def _entity_of(member: str) -> str | None:
    kind, _, name = member.partition(":")
    if member in _PUBLIC:
        return member
    if kind in _NAMES:
        return f"{_NAMES[kind]}-{name}"
    return next((f"project-{team}-{name}" for team, known in _TEAMS.items() if known == kind), None)


def of_bucket(connection: sqlite3.Connection, name: str) -> list[Entry]:
    """Return the list of a bucket. Raises ApiError NOT_FOUND."""
    roles = {role: short for short, role in _LEGACY.items()}
    entries: dict[str, Entry] = {}
    for binding in buckets.policy(connection, name)["bindings"]:
        short = roles.get(binding["role"])
        for member in binding["members"] if short else []:
            entity = _entity_of(member)
            if entity is not None and entity not in entries:
                entries[entity] = {"entity": entity, "role": str(short)}
    return list(entries.values())


def set_of_bucket(connection: sqlite3.Connection, name: str, entries: list[Entry]) -> None:
    """Replace the list of a bucket, which changes the legacy roles in its policy. Raises ApiError NOT_FOUND."""
    policy = buckets.policy(connection, name)
    bindings = [binding for binding in policy["bindings"] if binding["role"] not in _LEGACY.values()]
    for short, role in _LEGACY.items():
        members = sorted(member_of(entry["entity"]) for entry in entries if entry["role"] == short)
        bindings += [{"role": role, "members": members}] if members else []
    buckets.set_policy(connection, name, bindings, policy["version"])


def of_new_objects(connection: sqlite3.Connection, name: str) -> list[Entry]:
    """Return a bucket's list for new objects. Raises ApiError NOT_FOUND."""
    home = buckets.get(connection, name)
    entries: list[Entry] | None = home.get("defaultObjectAcl")
    return predefined("projectPrivate", home["projectNumber"]) if entries is None else entries


def resolved(connection: sqlite3.Connection, bucket: str, home: Json, given: Any) -> list[Entry]:
    """Return the list of an object for a request's entries or name of a predefined list.

    Raises ApiError 400, also with uniform access, and 412.
    """
    if is_uniform(home):
        raise bad_request(f"Cannot insert legacy ACL for an object when uniform bucket-level access is enabled. {MORE}")
    number = buckets.get(connection, bucket)["projectNumber"]
    return given_entries(connection, {**home, "projectNumber": number}, given, OBJECT_ROLES)


def resource(kind: str, entry: Entry, link: str, **more: str) -> Json:
    """Return an entry in the API's format. `link` is its address, `more` identifies its resource."""
    entity = entry["entity"]
    shown: Json = {"kind": f"storage#{kind}", "selfLink": link, **more, **entry, "etag": "CAE="}
    shown["id"] = "/".join([*more.values(), entity])
    sort, _, name = entity.partition("-")
    if sort in ("user", "group"):
        shown["email"] = name
    elif sort == "domain":
        shown["domain"] = name
    elif sort == "project":
        team, _, number = name.partition("-")
        shown["projectTeam"] = {"projectNumber": number, "team": team}
    return shown
