"""Caches for values that are computed from texts in requests, limited in bytes and in entries.

Clients choose these texts, so values for long texts are not cached: 1,024 texts of 64 KiB would be kept until the
server ends.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeVar

_Result = TypeVar("_Result")

HOST = 320
"""Maximum length of a valid `Host`: a name has at most 253 characters, a bucket's at most 245, then a port."""


def remembered(longest: int, entries: int = 1024) -> Callable[[Callable[[str], _Result]], Callable[[str], _Result]]:
    """Return a decorator that caches a function's last results for texts of at most `longest` characters."""

    def decorate(function: Callable[[str], _Result]) -> Callable[[str], _Result]:
        kept = functools.lru_cache(entries)(function)

        @functools.wraps(function)
        def of(text: str) -> _Result:
            return kept(text) if len(text) <= longest else function(text)

        return of

    return decorate
