"""The compiled package of `native/`, if it is installed and matches this version."""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from typing import Any

PROTOCOL = 8
"""The protocol version that this code expects from the package."""


@lru_cache(1)
def module() -> Any | None:
    """Return the package, or None if it is not installed or has another version."""
    try:
        found = import_module("runner_native")
    except ImportError:
        return None
    return found if found.PROTOCOL == PROTOCOL else None


def is_installed() -> bool:
    """Return whether the package is installed and matches."""
    return module() is not None
