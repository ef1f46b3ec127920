"""Names that are the same at every evaluation and fit Google's limits."""

from __future__ import annotations

import hashlib
import re

REGIONAL_KINDS = ("datasets", "images", "outputs")
"""The buckets that every region has. Both service agents work in all of them."""

BUCKET_KINDS = (*REGIONAL_KINDS, "contract")
"""The buckets of the home region. There is one contract bucket; it tells clients about the stack."""

PRODUCT = "Open model tuning"
"""Prefix of the titles of accounts, roles, channels and budgets."""
ENVIRONMENT_OBJECT = "environment.json"
SCRATCH_PREFIX = "tmp/"
"""Objects with this prefix in the datasets bucket are deleted automatically. Buckets of outputs have no such prefix."""

BUCKET_NAME_LIMIT = 63
FUNCTION_NAME_LIMIT = 63


STACK_LABEL = "tuning-stack"
"""The bucket label that names the stack that created the bucket."""


def label_of(stack: str) -> str:
    """Return a stack's name as a label value, which can contain neither capitals nor dots."""
    return re.sub(r"[^a-z0-9_-]", "-", stack.lower())[:63]


_MARK = re.compile(r" \([^()]*\)$")


def marked(title: str, prefix: str) -> str:
    """Return a title that is unique to one stack's resource: without a state, the resource is recognized by it."""
    return f"{title} ({prefix})"


def stackless(title: str | None) -> str | None:
    """Return a title without the stack's name."""
    return _MARK.sub("", title) if title else None


def unmarked(title: str) -> str:
    """Return a title in the form of versions that wrote no marks: with the program's name, but not the stack's."""
    return _MARK.sub("", title) if title.startswith(PRODUCT) else title


def bucket_name(prefix: str, kind: str, region: str | None = None) -> str:
    """Return the globally unique name of a bucket, at most 63 characters; `region` is omitted for the home region."""
    return "-".join(part for part in (prefix, region, kind) if part)


def endpoint_id(project: str, region: str, prefix: str) -> str:
    """Return the endpoint's resource ID: ten digits, without a leading zero, stable for one stack.

    The provider requires a number of at most 10 digits. A generated name would change at every replacement, and with it
    every client's address.
    """
    digest = hashlib.sha256(f"{project}/{region}/{prefix}".encode()).digest()
    return str(10**9 + int.from_bytes(digest[:8], "big") % (9 * 10**9))


def idle_guard_name(prefix: str) -> str:
    """Return the name of the idle guard's function and schedule: it begins with a letter, at most 63 characters."""
    name = f"{prefix}-idle-guard"
    if name[0].isdigit():
        name = f"tuning-{name}"
    if len(name) > FUNCTION_NAME_LIMIT:
        digest = hashlib.sha256(prefix.encode()).hexdigest()[:8]
        name = f"{name[: FUNCTION_NAME_LIMIT - 20].rstrip('-')}-{digest}-idle-guard"
    return name
