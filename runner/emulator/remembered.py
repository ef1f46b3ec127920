"""What is worked out once for a text that requests bring again and again: bounded in bytes, not only in entries.

A client chooses the text, so a long one is worked out each time: 1,024 of 64 KiB would be kept until the server ends.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeVar

_Result = TypeVar("_Result")

HOST = 320
"""Characters of the longest `Host` that leads anywhere: a name has at most 253, a bucket's at most 245, then a port."""


def remembered(longest: int, entries: int = 1024) -> Callable[[Callable[[str], _Result]], Callable[[str], _Result]]:
    """Return a decorator that keeps a function's last results, each for a text of at most `longest` characters."""

    def decorate(function: Callable[[str], _Result]) -> Callable[[str], _Result]:
        kept = functools.lru_cache(entries)(function)

        @functools.wraps(function)
        def of(text: str) -> _Result:
            return kept(text) if len(text) <= longest else function(text)

        return of

    return decorate
