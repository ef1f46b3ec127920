"""Buckets: where they are, and whom they let in."""

from __future__ import annotations

from dataclasses import dataclass

from runner.gcp.failures import call
from runner.gcp.session import Session


def bucket_policy(session: Session, bucket: str) -> dict[str, set[str]]:
    """Return the members of each role bound on a bucket itself (not those of its project).

    Conditional bindings are left out: whether they hold is not known here.
    """
    policy = call(
        "storage.buckets.getIamPolicy",
        f"gs://{bucket}",
        lambda: session.storage.bucket(bucket).get_iam_policy(requested_policy_version=3),
        idempotent=True,
    )
    roles: dict[str, set[str]] = {}
    for binding in policy.bindings:
        if not binding.get("condition"):
            roles.setdefault(binding["role"], set()).update(binding["members"])
    return roles


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketInfo:
    """A bucket."""

    name: str
    location: str
    """Lower case: `us-central1`, or a multi-region such as `us`."""
    location_type: str
    """`region`, `dual-region` or `multi-region`."""
    project_number: str


def bucket_info(session: Session, bucket: str) -> BucketInfo:
    """Return a bucket's place and project. Raises NotFoundError."""
    found = call("storage.buckets.get", f"gs://{bucket}", lambda: session.storage.get_bucket(bucket), idempotent=True)
    return BucketInfo(
        name=bucket,
        location=str(found.location or "").lower(),
        location_type=str(found.location_type or "region"),
        project_number=str(found.project_number or ""),
    )


def bucket_location(session: Session, bucket: str) -> str:
    """Return a bucket's location in lower case. Raises NotFoundError."""
    return bucket_info(session, bucket).location
