"""What a fast decoder proves of a line, so that the slow exact one need not read it.

Everything here either says exactly what `json_lines` would say or says nothing. The fast decoder is stricter than
Python's: it takes no NaN, no half of a surrogate pair, no byte order mark, and with the type that it is given here no
deep nesting and no endless number. What it lets pass is a key that is there twice, and the quotes of a line tell that.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from runner.datasets import scanning, texts
from runner.datasets.shapes import DECODE_ERRORS

_JOINT = "\x1e"
_LEVELS = 8
"""The documented formats need 7; deeper lines are left to the exact decoder."""
_MANY_BRACKETS = 200
"""A line with no more closing brackets than that is not nested too deep for any decoder."""
_REST_OF_LINE = {b"messages": b'"}]}', b"contents": b'"}]}]}', b"prompt": b'"}', b"completion": b'"}'}
"""What is missing where a line ends within a text, for the first key of the line."""


def _value() -> Any:
    integer = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
    scalar = str | bool | None | integer | float
    value: Any = scalar
    for _ in range(_LEVELS - 1):
        value = scalar | dict[str, value] | list[value]
    return value


_object = msgspec.json.Decoder(dict[str, _value()]).decode
# Makes no values: it only tells whether a line is JSON, three times as fast.
_skip = msgspec.json.Decoder(msgspec.Raw).decode


@dataclass(frozen=True, slots=True)
class PlainObject:
    """A JSON object without a key that is there twice, NaN, deep nesting, or half a surrogate pair."""

    body: dict[str, Any]
    clean: bool
    """Whether certainly no text and no key holds a control character or another that does not belong into one."""


def plain_object(data: bytes) -> PlainObject | None:
    """Return the object of a line, None where it is not proven that the exact decoder gives the same.

    Args:
        data: the line, without its line end.
    """
    if not data.endswith(b"}"):
        return None
    try:
        body = _object(data)
    except DECODE_ERRORS:
        return None
    strings = _strings(body)
    # With a control behind each string.
    joined = _JOINT.join([*strings, ""]).encode()
    size = len(joined)
    quotes = 2 * len(strings)
    if scanning.count(joined, b"\\\x1e", 0, size):
        quotes -= sum(string.endswith("\\") for string in strings)
    if scanning.quotes(data) != quotes:
        # Each string that is lost, its key at least, has two quotes, or one that counts if it ends with a backslash.
        return None
    clean = scanning.controls(joined) == len(strings) and not texts.may_hold_invisible(joined)
    return PlainObject(body, clean)


def _strings(body: dict[str, Any]) -> list[str]:
    """Return all keys and all strings."""
    found: list[str] = []
    waiting: list[Any] = [body]
    for item in waiting:
        if type(item) is dict:
            found.extend(item)
            item = item.values()  # noqa: PLW2901
        for child in item:
            if type(child) is str:
                found.append(child)
            elif type(child) is dict or type(child) is list:
                waiting.append(child)
    return found


def syntax_error(data: bytes, text: str) -> json.JSONDecodeError | None:
    """Return the error of a line that breaks off or is followed by a comma, None where that is not proven.

    Python's decoder reads from left to right and stops at its first error. So where a line would be a JSON object with
    a few characters more, its error is at its end, or where the text begins in which it ends.

    Args:
        data: the line, without its line end.
        text: the same, decoded.
    """
    if not data.startswith(b'{"'):
        return None
    if scanning.count(data, b"]", 0, len(data)) + scanning.count(data, b"}", 0, len(data)) > _MANY_BRACKETS:
        return None
    if data.endswith(b"},"):
        return json.JSONDecodeError("Extra data", text, len(text) - 1) if _is_json(data[:-1]) else None
    if _is_json(data + b"}"):
        return json.JSONDecodeError("Expecting ',' delimiter", text, len(text))
    rest = _REST_OF_LINE.get(data[2 : data.find(b'"', 2)])
    if rest is None or data.endswith(b"}") or not _is_json(data + rest):
        return None
    return json.JSONDecodeError("Unterminated string starting at", text, _last_quote(text))


def _is_json(data: bytes) -> bool:
    """Tell whether a line is certainly JSON for Python's decoder, a key that is there twice or not."""
    limit = sys.get_int_max_str_digits()
    try:
        if len(data) <= limit or not limit:
            _skip(data)
        else:
            _object(data)
    except DECODE_ERRORS:
        return False
    return True


def _last_quote(text: str) -> int:
    """Return the place of the last quote with an even number of backslashes before it."""
    place = len(text)
    while True:
        start = place = text.rindex('"', 0, place)
        while text[start - 1] == "\\":
            start -= 1
        if (place - start) % 2 == 0:
            return place
