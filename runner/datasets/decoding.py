"""What a fast decoder proves of a line, so that the slow exact one need not read it.

Everything here either says exactly what `json_lines` would say or says nothing. The fast decoder is stricter than
Python's: it takes no NaN, no half of a surrogate pair, no byte order mark, and with the type that it is given here no
deep nesting and no endless number. What it lets pass is a key that is there twice, and the quotes of a line tell that.
"""

from __future__ import annotations

import re
import sys
from typing import Annotated, Any, NamedTuple

import msgspec

from runner.datasets import native, scanning, texts
from runner.datasets.shapes import DECODE_ERRORS

_JOINT, _END = "\x1e", b"\\\x1e"
_STARTS = frozenset([bytes([code]) for code in b'["-0123456789tfnNI \t\r\n\xef'])
"""What JSON, and what Python's decoder takes for it, begins with, and a byte order mark."""
_SECONDS = frozenset([bytes([code]) for code in b'" \t\r\n}'])
_PLACE = re.compile(r"(trailing characters|expected ',' or '}') \(byte (\d+)\)$")
_ESCAPE = len(b"\\u0041")
_DIGITS = frozenset(b"0123456789")
_ENDS_OF_MOST_VALUES, _ENDS_OF_OTHER_VALUES = frozenset(b'"]'), frozenset(b"}0123456789el \t\r\n")
_LEVELS = 8
"""The documented formats need 7; deeper lines are left to the exact decoder."""
_MANY_BRACKETS = 200
"""A line with no more closing brackets than that is not nested too deep for any decoder."""
_REST_OF_LINE = {
    b"messages": b'"}]}',
    b"contents": b'"}]}]}',
    b"systemInstruction": b'"}]}]}',
    b"prompt": b'"}',
    b"completion": b'"}',
}
"""What is missing where a line ends within a text, for the first key of the line."""


_Integer = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


def _object_type() -> Any:
    scalar: Any = str | bool | None | float | _Integer
    value: Any = scalar
    for _ in range(_LEVELS - 1):
        value = scalar | dict[str, value] | list[value]
    return dict[str, value]


_object = msgspec.json.Decoder(_object_type()).decode
# Makes no values: it only tells whether a line is JSON, twice as fast.
_skip = msgspec.json.Decoder(msgspec.Raw).decode


_native = native.module()


class NotJson(NamedTuple):
    """What Python's decoder says of a line."""

    text: str
    """The line."""
    problem: str
    place: int
    """In the text."""


class PlainObject(NamedTuple):
    """The object of a line that is JSON in every respect."""

    body: dict[str, Any]
    clean: bool
    """Whether certainly no text and no key holds a control or another character that does not belong into one.

    Either way none holds half a surrogate pair.
    """


def decode_plainly(data: bytes) -> PlainObject | NotJson | None:
    """Return the object of a line or why it has none; None where it is not proven that the exact decoder says that.

    Args:
        data: the line, without its line end.
    """
    if _native is not None:
        if data.endswith(b"}") and (found := _native.decode_object(data)) is not None:
            return PlainObject(*found)
        if _native.lacks_brace(data):
            text = data.decode()
            return NotJson(text, "Expecting ',' delimiter", len(text))
    return decode_in_python(data)


def decode_in_python(data: bytes) -> PlainObject | NotJson | None:
    """Return the same without the compiled package."""
    if not data.startswith(b'{"'):
        return _wrong_start(data)
    if not data.endswith(b"}"):
        return _broken_off(data)
    try:
        body = _object(data)
    except msgspec.ValidationError:
        return None
    except msgspec.DecodeError as error:
        return _stopped(data, error)
    except DECODE_ERRORS:
        return None
    strings = _strings(body)
    quotes, count = scanning.quotes(data), len(strings)
    # A string that is lost, of a key that is there twice at least that key, has two quotes; `scanning.quotes` counts
    # but one if it ends with a backslash.
    if quotes > 2 * count:
        return None
    if quotes == 2 * count and _is_plainly_written(data):
        return PlainObject(body, not texts.may_hold_invisible(data))
    strings.append("")
    joined = _JOINT.join(strings).encode()  # with a control behind each string
    ends = sum(string.endswith("\\") for string in strings) if scanning.count(joined, _END, 0, len(joined)) else 0
    if quotes != 2 * count - ends:
        return None
    return PlainObject(body, scanning.controls(joined) == count and not texts.may_hold_invisible(joined))


def _is_plainly_written(data: bytes) -> bool:
    """Tell whether no string of valid JSON ends with a backslash, and none has a control in it or one beyond ASCII."""
    size, count = len(data), scanning.count
    return not (
        count(data, b"\\u", 0, size)
        or count(data, b'\\\\"', 0, size)
        or count(data, b"\\b", 0, size)
        or count(data, b"\\f", 0, size)
        or count(data, b"\x7f", 0, size)
    )


def _strings(body: dict[str, Any]) -> list[str]:
    """Return all keys and all strings."""
    found: list[str] = []
    waiting: list[Any] = [body]
    for item in waiting:
        if type(item) is dict:
            found.extend(item)
            item = item.values()
        for child in item:
            if type(child) is str:
                found.append(child)
            elif type(child) is dict or type(child) is list:
                waiting.append(child)
    return found


def _text(data: bytes) -> str | None:
    """Return a line as text, None where it is none or may be nested too deep for a decoder; NUL bytes pass."""
    size = len(data)
    if scanning.count(data, b"]", 0, size) + scanning.count(data, b"}", 0, size) > _MANY_BRACKETS:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _wrong_start(data: bytes) -> NotJson | None:
    """Return the error of a line that is the rest of another, or an object in another notation."""
    first, second = data[:1], data[1:2]
    opened = first == b"{"
    if not first or first in _STARTS or (opened and (not second or second in _SECONDS)):
        return None
    text = _text(data)
    if text is None or text.isspace() or b"\x00" in data:
        return None
    if opened:
        return NotJson(text, "Expecting property name enclosed in double quotes", 1)
    return NotJson(text, "Expecting value", 0)


def _broken_off(data: bytes) -> NotJson | None:
    """Return the error of a line that breaks off, or has a comma behind its object.

    Python's decoder reads from left to right and stops at its first error. So where a line would be a JSON object with
    a few characters more, its error is at its end, or where the text begins in which it ends.
    """
    text = _text(data)
    if text is None:
        return None
    if data.endswith(b"},"):
        return NotJson(text, "Extra data", len(text) - 1) if is_json(data[:-1]) else None
    last = data[-1]
    if last in _ENDS_OF_MOST_VALUES and is_json(data + b"}"):
        return NotJson(text, "Expecting ',' delimiter", len(text))
    rest = _rest(data)
    # Python's decoder takes an escape of four digits for a broken one where nothing follows it.
    if rest is not None and b"\\u" not in data[-_ESCAPE:] and is_json(data + rest):
        return NotJson(text, "Unterminated string starting at", _last_quote(text))
    if last in _ENDS_OF_OTHER_VALUES and is_json(data + b"}"):
        return NotJson(text, "Expecting ',' delimiter", len(text))
    return None


def _stopped(data: bytes, error: msgspec.DecodeError) -> NotJson | None:
    """Return the error of a line with something behind its object or, unescaped quotes do that, behind a string."""
    match = _PLACE.search(str(error))
    if match is None:
        return None
    # Its word is only a hint of where to look.
    behind = match[1] == "trailing characters"
    place = int(match[2]) - behind
    before, found = data[:place], data[place : place + 1]
    text = _text(data)
    if text is None or not found or found.isspace() or b"\x00" in data:
        return None
    if behind:
        return NotJson(text, "Extra data", len(before.decode())) if is_json(before) else None
    rest = _rest(data)
    if rest is None or found in {b",", b"}"} or not before.rstrip().endswith(b'"') or not is_json(before + rest[1:]):
        return None
    return NotJson(text, "Expecting ',' delimiter", len(before.decode()))


def _rest(data: bytes) -> bytes | None:
    return _REST_OF_LINE.get(data[2 : data.find(b'"', 2)])


def is_json(data: bytes) -> bool:
    """Tell whether a line in UTF-8 is certainly JSON for Python's decoder, a key that is there twice or not."""
    limit = sys.get_int_max_str_digits()
    # A number with more digits than allowed has one at a place that is a multiple of their number.
    endless = limit and not _DIGITS.isdisjoint(data[limit::limit])
    try:
        (_object if endless else _skip)(data)
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
