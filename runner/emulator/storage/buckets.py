"""Buckets: their rows, resources and IAM policies."""

from __future__ import annotations

import base64
import json
import sqlite3
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from runner.emulator.iam import deleted_members
from runner.emulator.storage.faults import no_such_bucket
from runner.emulator.storage.records import timestamp, varint

Json = dict[str, Any]

MULTI_REGIONS = {"US", "EU", "ASIA"}
DUAL_REGIONS = {"ASIA1", "EUR4", "EUR5", "EUR7", "EUR8", "NAM4"}


def find(connection: sqlite3.Connection, name: str, *, base: str = "") -> Json | None:
    """Return the bucket's resource, its links starting with `base`, or None."""
    row = connection.execute(
        "SELECT project, metageneration, body FROM storage_buckets WHERE name = ?", (name,)
    ).fetchone()
    return None if row is None else _resource(name, row[0], row[1], json.loads(row[2]), base)


def get(connection: sqlite3.Connection, name: str, *, base: str = "") -> Json:
    """Return the bucket's resource. Raises ApiError NOT_FOUND."""
    bucket = find(connection, name, base=base)
    if bucket is None:
        raise no_such_bucket()
    return bucket


def require(connection: sqlite3.Connection, name: str) -> Json:
    """Return only the stored fields of a bucket. Raises ApiError NOT_FOUND."""
    row = connection.execute("SELECT body FROM storage_buckets WHERE name = ?", (name,)).fetchone()
    if row is None:
        raise no_such_bucket()
    body: Json = json.loads(row[0])
    return body


def _resource(name: str, project: str, metageneration: int, body: Json, base: str) -> Json:
    return {
        "kind": "storage#bucket",
        "id": name,
        "selfLink": f"{base}/storage/v1/b/{quote(name)}",
        "name": name,
        "projectNumber": project,
        "metageneration": str(metageneration),
        "etag": _etag(metageneration),
        **body,
    }


def _etag(revision: int) -> str:
    return base64.b64encode(b"\x08" + varint(revision)).decode()


def location_type(location: str) -> str:
    """Return `region`, `dual-region` or `multi-region` for an uppercase location."""
    if location in MULTI_REGIONS:
        return "multi-region"
    return "dual-region" if location in DUAL_REGIONS else "region"


def insert(connection: sqlite3.Connection, name: str, project: str, body: Json) -> None:
    """Add a bucket with the service's default policy. The caller has checked that the name is free."""
    bindings = [
        {
            "role": "roles/storage.legacyBucketOwner",
            "members": [f"projectEditor:{project}", f"projectOwner:{project}"],
        },
        {"role": "roles/storage.legacyBucketReader", "members": [f"projectViewer:{project}"]},
    ]
    connection.execute(
        "INSERT INTO storage_buckets (name, project, metageneration, body, policy, policy_revision)"
        " VALUES (?, ?, 1, ?, ?, 1)",
        (name, project, dump(body), dump({"version": 1, "bindings": bindings})),
    )


def update(connection: sqlite3.Connection, name: str, body: Json, now: int) -> None:
    """Replace the stored fields and increase the metageneration."""
    body["updated"] = timestamp(now)
    connection.execute(
        "UPDATE storage_buckets SET body = ?, metageneration = metageneration + 1 WHERE name = ?", (dump(body), name)
    )


def policy(connection: sqlite3.Connection, name: str) -> Json:
    """Return the bucket's IAM policy. Raises ApiError NOT_FOUND."""
    row = connection.execute("SELECT policy, policy_revision FROM storage_buckets WHERE name = ?", (name,)).fetchone()
    if row is None:
        raise no_such_bucket()
    return {
        "kind": "storage#policy",
        "resourceId": f"projects/_/buckets/{name}",
        **json.loads(row[0]),
        "etag": _etag(row[1]),
    }


def rename_member(connection: sqlite3.Connection, old: str, new: str) -> None:
    """Rename a member in every bucket's policy."""
    connection.execute(
        "UPDATE storage_buckets SET policy = replace(policy, ?, ?), policy_revision = policy_revision + 1"
        " WHERE instr(policy, ?)",
        (json.dumps(old), json.dumps(new), json.dumps(old)),
    )


deleted_members.RENAMES.append(rename_member)


def set_policy(connection: sqlite3.Connection, name: str, bindings: list[Json], version: int) -> Json:
    """Replace the bucket's IAM policy. Raises ApiError NOT_FOUND."""
    connection.execute(
        "UPDATE storage_buckets SET policy = ?, policy_revision = policy_revision + 1 WHERE name = ?",
        (dump({"version": version, "bindings": bindings}), name),
    )
    return policy(connection, name)


def defaults(now: int) -> Json:
    """Return the service's default settings of a new bucket."""
    created = timestamp(now)
    return {
        "timeCreated": created,
        "updated": created,
        "storageClass": "STANDARD",
        "location": "US",
        "iamConfiguration": {
            "bucketPolicyOnly": {"enabled": False},
            "uniformBucketLevelAccess": {"enabled": False},
            "publicAccessPrevention": "inherited",
        },
        # https://cloud.google.com/storage/docs/soft-delete#default: 7 days.
        "softDeletePolicy": {"retentionDurationSeconds": "604800", "effectiveTime": created},
    }


def complete(body: Json, before: Json | None, now: int) -> Json:
    """Add the fields that the service derives from other fields after a change; returns `body`."""
    location = str(body.get("location") or "US").upper()
    kind = "dual-region" if body.get("customPlacementConfig") else location_type(location)
    body |= {"location": location, "locationType": kind}
    if kind != "region":
        body.setdefault("rpo", "DEFAULT")
    access = body.setdefault("iamConfiguration", {})
    uniform = access.setdefault("uniformBucketLevelAccess", {"enabled": False})
    if uniform.get("enabled"):
        # Uniform access can be disabled again for 90 days.
        lock = datetime.fromtimestamp(now // 1_000_000 + 90 * 86400, UTC)
        uniform.setdefault("lockedTime", lock.strftime("%Y-%m-%dT%H:%M:%S.000Z"))
    else:
        uniform.pop("lockedTime", None)
    access["bucketPolicyOnly"] = dict(uniform)
    access.setdefault("publicAccessPrevention", "inherited")
    body.setdefault("generation", str(now))
    for key in ("softDeletePolicy", "retentionPolicy"):
        current, previous = body.get(key), (before or {}).get(key)
        if isinstance(current, dict):
            field = "retentionDurationSeconds" if key == "softDeletePolicy" else "retentionPeriod"
            if field in current:
                current[field] = str(current[field])
            unchanged = previous is not None and previous.get(field) == current.get(field)
            if (previous or {}).get("isLocked"):
                current["isLocked"] = True
            current["effectiveTime"] = previous["effectiveTime"] if unchanged and previous else timestamp(now)
    if body.get("softDeletePolicy") is None:
        body["softDeletePolicy"] = {"retentionDurationSeconds": "0", "effectiveTime": timestamp(now)}
    if not body.get("storageClass"):
        body["storageClass"] = "STANDARD"
    return body


def dump(value: Json) -> str:
    """Return JSON for a row."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
