"""Names that are the same at every evaluation and fit Google's limits."""

from __future__ import annotations

import hashlib
import re

REGIONAL_KINDS = ("datasets", "images", "outputs")
"""The buckets that every region has of its own. Both service agents work in all of them."""

BUCKET_KINDS = (*REGIONAL_KINDS, "contract")
"""The buckets of the home region; the contract, of which there is one, tells clients what there is."""

PRODUCT = "Open model tuning"
"""Titles of accounts, roles, channels and budgets begin with it."""
ENVIRONMENT_OBJECT = "environment.json"
SCRATCH_PREFIX = "tmp/"
"""What is put under it in the datasets bucket goes by itself. No bucket of outputs has such a place."""

BUCKET_NAME_LIMIT = 63
FUNCTION_NAME_LIMIT = 63


STACK_LABEL = "tuning-stack"
"""The label of a bucket that names the stack that made it."""


def label_of(stack: str) -> str:
    """Return a stack's name as a label's value, which has neither capitals nor dots."""
    return re.sub(r"[^a-z0-9_-]", "-", stack.lower())[:63]


_MARK = re.compile(r" \([^()]*\)$")


def marked(title: str, prefix: str) -> str:
    """Return a title that tells one stack's resource from all others': what no state remembers is known by it."""
    return f"{title} ({prefix})"


def stackless(title: str | None) -> str | None:
    """Return a title without the stack's name."""
    return _MARK.sub("", title) if title else None


def unmarked(title: str) -> str:
    """Return a title as versions that gave no marks wrote it: with the program's name, but not the stack's."""
    return _MARK.sub("", title) if title.startswith(PRODUCT) else title


def bucket_name(prefix: str, kind: str, region: str | None = None) -> str:
    """Return the globally unique name of a bucket, at most 63 characters; `region` is given for all but the home."""
    return "-".join(part for part in (prefix, region, kind) if part)


def endpoint_id(project: str, region: str, prefix: str) -> str:
    """Return the endpoint's resource id: ten digits, none of them a leading zero, stable for one stack.

    The provider wants a number of at most 10 digits; generated names would change at every replacement, and so would
    every client's address.
    """
    digest = hashlib.sha256(f"{project}/{region}/{prefix}".encode()).digest()
    return str(10**9 + int.from_bytes(digest[:8], "big") % (9 * 10**9))


def idle_guard_name(prefix: str) -> str:
    """Return the name of the idle guard's function and schedule: a letter first, at most 63 characters."""
    name = f"{prefix}-idle-guard"
    if name[0].isdigit():
        name = f"tuning-{name}"
    if len(name) > FUNCTION_NAME_LIMIT:
        digest = hashlib.sha256(prefix.encode()).hexdigest()[:8]
        name = f"{name[: FUNCTION_NAME_LIMIT - 20].rstrip('-')}-{digest}-idle-guard"
    return name
