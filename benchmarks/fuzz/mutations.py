"""Broken versions of an input: of its bytes, or of its values if it is JSON or YAML."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

PIECES = (
    *(b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"\\u00", b"\\ud800", b"\xff", b"\x00", b"\n", b"\r"),
    *(b"\xed\xa0\x80", b"\xef\xbb\xbf", b"NaN", b"-1e999", b"\xc2\x85", b"\xe2\x80\xa8", b"\xe2\x80\x8b"),
    *(b"[" * 100, b'{"a":' * 100, b"&a *a", b"!!python/object", b"<<: ", b"../", b"%2e%2e%2f", b"\x1b[31m"),
)
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63) - 1, 10**30, 0.5, -0.0, 1e308, float("nan"), float("inf")),
    *("", " ", "a", "/etc/passwd", "../x", "gs://b/o", "gs://", "\ud800", "\x00", "\u200b", "1" * 400, "é" * 100),
    *("projects/p/locations/us-central1/models/1", "2026-01-01T00:00:00Z", "3600s", "-1s", "*", "${x}", "{{ x }}"),
    *([], {}, [[]], [None], {"": None}, [{}], {"a": {"a": {"a": {}}}}),
)


def broken(draw: random.Random, data: bytes, times: int, pieces: Sequence[bytes] = PIECES) -> bytes:
    """Return data with some bytes inserted, deleted, changed, repeated or truncated."""
    made = bytearray(data)
    for _ in range(times):
        position = draw.randrange(len(made) + 1)
        kind = draw.randrange(6)
        if kind == 0:
            made[position:position] = draw.choice(pieces)
        elif kind == 1:
            del made[position : position + draw.randint(1, 20)]
        elif kind == 2 and position < len(made):
            made[position] = draw.randrange(256)
        elif kind == 3:
            made[position:position] = made[max(0, position - 40) : position]
        elif kind == 4 and position < len(made):
            made[position] ^= 1 << draw.randrange(8)
        else:
            made = made[:position]
    return bytes(made)


def changed(draw: random.Random, value: Any, times: int) -> Any:
    """Return a JSON value with some of its values replaced, removed, repeated or renamed."""
    made = json.loads(json.dumps(value))
    for _ in range(times):
        places = list(_places(made))
        if not places:
            return draw.choice(_VALUES)
        holder, key = draw.choice(places)
        kind = draw.randrange(6)
        if kind <= 1:
            holder[key] = draw.choice(_VALUES)
        elif kind == 2:
            del holder[key]
        elif kind == 3:
            other, place = draw.choice(places)
            holder[key] = json.loads(json.dumps(other[place])) if _holds(other, place) else None
        elif kind == 4 and isinstance(holder, list):
            holder += [holder[key]] * draw.choice((1, 2, 20))
        elif isinstance(holder, dict):
            holder[draw.choice(("x", "", "__proto__", str(key).upper(), f"{key} "))] = holder[key]
        else:
            holder[key] = [holder[key]]
    return made


def _holds(holder: Any, key: Any) -> bool:
    return key in holder if isinstance(holder, dict) else key < len(holder)


def _places(value: Any, depth: int = 0) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    if depth > 12:
        return found
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found.append((value, key))
        found += _places(inner, depth + 1)
    return found


def of_document(draw: random.Random, data: bytes, read: Callable[[bytes], Any], write: Callable[[Any], bytes]) -> bytes:
    """Return a document with changed values or, if it cannot be read and sometimes otherwise, with changed bytes."""
    if draw.random() < 0.75:
        try:
            return write(changed(draw, read(data), draw.choice((1, 1, 2, 4))))
        except Exception:  # noqa: S110 - mutated into something that cannot be parsed: kept as bytes
            pass
    return broken(draw, data, draw.choice((1, 1, 2, 4)))
