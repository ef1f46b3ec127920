"""Counts of short byte strings in large ones: the vectorised searches that the fast path rests on.

`stringzilla` is ten times faster at this than the methods of `bytes`, which take its place where it is not installed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from typing import Any

from ahocorasick_rs import BytesAhoCorasick, Implementation

_fast: Any
try:
    _fast = import_module("stringzilla")
except ImportError:
    _fast = None

VECTORISED = _fast is not None

CONTROLS = bytes([*range(9), 0x0B, 0x0C, *range(0x0E, 0x20), 0x7F])
"""ASCII controls that do not belong into a text."""


@lru_cache(64)
def _finder(wanted: bytes) -> Callable[[bytes], list[tuple[int, int, int]]]:
    return BytesAhoCorasick([wanted], implementation=Implementation.DFA).find_matches_as_indexes


def _slow_count(data: bytes, wanted: bytes, start: int = 0, end: int | None = None) -> int:
    if (len(wanted) == 1 and wanted != b"\n") or start or end is not None:
        return data.count(wanted, start, end)
    # What is rare is found several times faster than counted.
    return len(_finder(wanted)(data))


def _slow_count_set(data: bytes, wanted: bytes) -> int:
    return len(data) - len(data.translate(None, wanted))


_count: Callable[..., int] = _fast.count if _fast is not None else _slow_count
_count_set: Callable[[bytes, bytes], int] = _fast.count_byteset if _fast is not None else _slow_count_set


def count(data: bytes, wanted: bytes, start: int, end: int) -> int:
    """Return how often a byte string that cannot overlap itself stands in a part of another."""
    return _count(data, wanted, start, end)


def controls(data: bytes) -> int:
    """Return the number of ASCII controls in a byte string, tab and line ends apart."""
    return _count_set(data, CONTROLS)


def quotes(data: bytes) -> int:
    """Return the number of quotes with no backslash before them.

    In valid JSON that is two for each string, less one for each string whose value ends with a backslash.
    """
    return _count(data, b'"') - _count(data, b'\\"')


def ends_with_backslash(pieces: list[bytes], joined: bytes) -> bool:
    """Tell whether one of the pieces, joined by `\\x1e`, ends with a backslash."""
    return pieces[-1].endswith(b"\\") or _count(joined, b"\\\x1e") > 0


def one_object_a_line(block: bytes, values: int) -> bool:
    """Tell whether each line of a block is certainly one JSON object, if all of it is that many JSON objects.

    A string holds no line end, so one between braces stands between two objects: when it does so between any two, and
    there are no other line ends, the lines are the objects.
    """
    ends = _count(block, b"\n")
    last = block.endswith(b"\n")
    return ends - last == values - 1 and block.startswith(b"{") and _count(block, b"}\n{") == values - 1
