"""The compiled package of `native/`, where it is installed and suits this version."""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from typing import Any

PROTOCOL = 8
"""The protocol version that this code expects from the package."""


@lru_cache(1)
def module() -> Any | None:
    """Return the package, None where it is not installed or is one of another version."""
    try:
        found = import_module("runner_native")
    except ImportError:
        return None
    return found if found.PROTOCOL == PROTOCOL else None


def is_installed() -> bool:
    """Tell whether the package is there and suits."""
    return module() is not None
