"""Names that are the same at every evaluation and fit Google's limits."""

from __future__ import annotations

import hashlib

BUCKET_KINDS = ("datasets", "images", "outputs", "contract")
"""The buckets of a stack. The service agents work in the first three; the contract tells clients what there is."""

AGENT_BUCKET_KINDS = ("datasets", "images", "outputs")

ENVIRONMENT_OBJECT = "environment.json"


def bucket_name(prefix: str, kind: str) -> str:
    """Return the globally unique name of a bucket, at most 63 characters."""
    return f"{prefix}-{kind}"


def endpoint_id(project: str, region: str, prefix: str) -> str:
    """Return the endpoint's resource id: ten digits, none of them a leading zero, stable for one stack.

    The provider wants a number of at most 10 digits; generated names would change at every replacement, and so would
    every client's address.
    """
    digest = hashlib.sha256(f"{project}/{region}/{prefix}".encode()).digest()
    return str(10**9 + int.from_bytes(digest[:8], "big") % (9 * 10**9))
