"""Reads JSON objects from bytes, strictly: problems for the service's reader are found here, with their line.

Python's own decoder is used, with stricter rules where it is lenient (NaN, duplicate keys, lone surrogates), because a
lenient reader hides errors until the job has been queued. msgspec decodes the lines for which it certainly returns the
same, in a third of the time. Lines are limited before decoding, so that a file without line ends uses limited memory.
"""

from __future__ import annotations

import json
import re
import sys
import threading
from collections import Counter
from collections.abc import Callable
from functools import cache
from itertools import chain
from typing import Any

import msgspec

from runner.datasets.examples import Finding, Severity
from runner.datasets.reading.lines import MAX_LINE_BYTES, RawLine
from runner.datasets.rules import texts
from runner.datasets.rules.formats import MAX_DEPTH
from runner.json_text import expected

_CONFLICT = re.compile(r"<{7} |={7}\s*$|>{7} ")
"""Git's markers of the two sides of a conflict."""


class Findings:
    """Collects what is wrong with one line."""

    __slots__ = ("cuts", "failed", "file", "items", "line")

    def __init__(self, file: str, line: int) -> None:
        self.file = file
        self.line = line
        self.items: list[Finding] = []
        self.cuts: list[tuple[int, int]] = []
        """Places of omitted characters: how many remaining characters come before, and how many are missing."""
        self.failed = False
        """Whether an error was added."""

    def add(self, code: str, severity: Severity, path: str, message: str, fix: str = "") -> None:
        """Add a finding at a JSON path of this line; half surrogate pairs, which files cannot contain, are escaped."""
        if not (path.isascii() and message.isascii() and fix.isascii()):
            path, message, fix = (text.encode("utf-8", "backslashreplace").decode() for text in (path, message, fix))
        if severity == "error":
            self.failed = True
        file, line = self.file, self.line
        self.items.append(
            Finding(code=code, severity=severity, file=file, line=line, path=path, message=message, fix=fix)
        )

    def error(self, code: str, path: str, message: str, fix: str = "") -> None:
        """Add a problem because of which the line is not an example."""
        self.add(code, "error", path, message, fix)

    def warning(self, code: str, path: str, message: str, fix: str = "") -> None:
        """Add something that is allowed but probably unintended."""
        self.add(code, "warning", path, message, fix)


def decode_object(raw: RawLine, findings: Findings) -> dict[str, Any] | None:
    """Return the JSON object of a line, or None after adding what is wrong with it.

    A blank line returns None without a finding.
    """
    if raw.too_long:
        findings.error(
            "line-too-long", "", f"the line is longer than {MAX_LINE_BYTES >> 20} MiB", "one example a line; split it"
        )
        return None
    data = raw.data
    if raw.number == 1 and data.startswith(b"\xef\xbb\xbf"):
        findings.warning("byte-order-mark", "", "the file starts with a UTF-8 byte order mark", "save it without one")
        data = data[3:]
    if not data.strip():
        return None
    if b"\x00" in data:
        offset = data.index(b"\x00")
        findings.error("nul-byte", "", f"NUL byte at byte {offset} of the line", "write the file as UTF-8 text")
        return None
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        findings.error(
            "not-utf8", "", f"byte {error.start} of the line is not UTF-8 ({error.reason})", "save the file as UTF-8"
        )
        return None
    return decode_text(text, findings)


_TEXTS: Any = str | None
for _ in range(8):  # the documented formats need 7
    _TEXTS = str | None | list[_TEXTS] | dict[str, _TEXTS]
_decoder = msgspec.json.Decoder(dict[str, _TEXTS])
_scan: Callable[[str, int], Any] = json.JSONDecoder().scan_once  # type: ignore[attr-defined]
# A quote after one backslash ends no string; after two, it can.
_find_keys = re.compile(rb'"(?<!(?<!\\)\\")[ \t\r\n]*:').findall


def decode_plain(data: bytes, findings: Findings) -> dict[str, Any] | None:
    """Return the object of a line without numbers and duplicate keys, or None after adding what is wrong."""
    data = data.rstrip(b"\r\n")
    if data.endswith(b"}"):  # otherwise it is incomplete, or followed by blanks
        try:
            body: dict[str, Any] = _decoder.decode(data)
        except (msgspec.DecodeError, RecursionError):
            pass
        else:
            return body
    text = data.decode()
    try:
        _scan(text, 0)
    except json.JSONDecodeError as error:
        _not_json(error, findings)
        return None
    except (StopIteration, RecursionError):
        pass
    return decode_text(text, findings)


def decode_block(block: bytes) -> tuple[list[dict[str, Any]], list[bool]] | None:
    """Return the objects of all lines of a block, if they are certainly those of the strict decoder; otherwise None.

    msgspec is as strict, except about duplicate keys and numbers. Therefore no object may have a number, and the
    number of keys must equal the number of colons after a string in the block. The second result is whether no text of
    each line can have a control character.
    """
    try:
        bodies: list[dict[str, Any]] = _decoder.decode_lines(block)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    # The library does not check line ends. Between these brackets, a line end separates two objects.
    plain, at = [True], 0
    for which, _, end in _find_places()(block):
        if which >= len(_BETWEEN):
            plain[-1] = False
        elif block.find(b"\n", at) == end - 2:
            at = end - 1
            plain.append(True)
        else:
            return None
    if block.find(b"\n", at) not in {-1, len(block) - 1} or len(plain) != len(bodies):
        return None
    if b"\x7f" in block or _count_keys(bodies) != len(_find_keys(block)):
        return None
    return bodies, plain


_BETWEEN = (b"}\n{", b"}\r\n{")


@cache
def _find_places() -> texts.Search:
    """Return a search for line ends and for possible control characters."""
    return texts.searcher([*_BETWEEN, *map(str.encode, texts.WRITTEN_CONTROLS)])


def _count_keys(objects: list[dict[str, Any]]) -> int:
    """Return the number of keys in objects and all objects inside them."""
    keys, lists = 0, list[Any]()
    while objects or lists:
        keys += sum(map(len, objects))
        values = [*chain.from_iterable(map(dict.values, objects)), *chain.from_iterable(lists)]
        objects = [value for value in values if type(value) is dict]
        lists = [value for value in values if type(value) is list]
    return keys


class _Strict(threading.local):
    """The decoder, created once, and the violations that it has seen."""

    def __init__(self) -> None:
        self.duplicates: list[str] = []
        self.constants: list[str] = []
        # Only these two lists outlive a call, and each thread has its own.
        self.decode = json.JSONDecoder(object_pairs_hook=self._pairs, parse_constant=self._constant).decode

    def _pairs(self, items: list[tuple[str, Any]]) -> dict[str, Any]:
        body = dict(items)
        if len(body) != len(items):
            counts = Counter(key for key, _ in items)
            self.duplicates.extend(key for key, count in counts.items() if count > 1)
        return body

    def _constant(self, name: str) -> None:
        self.constants.append(name)


_strict = _Strict()


def decode_text(text: str, findings: Findings) -> dict[str, Any] | None:
    """Return the JSON object of a line of text, or None after adding what is wrong with it."""
    duplicates, constants = _strict.duplicates, _strict.constants
    duplicates.clear()
    constants.clear()
    try:
        if text.startswith("\ufeff"):
            raise json.JSONDecodeError("Unexpected UTF-8 BOM (decode using utf-8-sig)", text, 0)
        value = _strict.decode(text)
    except RecursionError:
        findings.error("too-deep", "", f"nested deeper than {MAX_DEPTH} levels")
        return None
    except json.JSONDecodeError as error:
        _not_json(error, findings)
        return None
    except ValueError:
        # The only other ValueError of json.loads: an integer beyond the interpreter's limit of digits.
        findings.error("number-too-long", "", f"a number has more than {sys.get_int_max_str_digits()} digits")
        return None
    for name in dict.fromkeys(constants):
        findings.error("not-a-number", "", f"{name} is not JSON", "leave it out, or write a number")
    for key in dict.fromkeys(duplicates):
        findings.error("duplicate-key", "", f"the key {key!r} appears twice in one object", "keep one of them")
    if not isinstance(value, dict):
        kind = {list: "an array", str: "a string", int: "a number", float: "a number"}.get(type(value), "a scalar")
        findings.error("not-an-object", "", f"the line is {kind}, not a JSON object", "one object a line")
        return None
    # Every level has a closing bracket.
    if text.count("}") + text.count("]") > MAX_DEPTH and deeper_than(value, MAX_DEPTH):
        findings.error("too-deep", "", f"nested deeper than {MAX_DEPTH} levels")
        return None
    return None if findings.failed else value


def _not_json(error: json.JSONDecodeError, findings: Findings) -> None:
    text, problem, place = error.doc, error.msg, error.pos
    missing = sum([count for before, count in findings.cuts if before <= place])
    column = place - text.rfind("\n", 0, place) + missing
    if place == 0 and _CONFLICT.match(text):
        findings.error("invalid-json", "", "a merge conflict that nobody has resolved", "resolve it in Git")
        return
    if problem == "Extra data":
        rest = text[place:].lstrip()
        what = "a second JSON value" if rest[:1] in {"{", "["} else f"{rest[:20]!r}"
        message = f"{what} follows the JSON object at column {column}"
    elif shown := text[place : place + 20]:
        message = f"this is not JSON at column {column}: {expected(problem)}, found {shown!r}"
    else:
        message = f"the JSON is cut off at column {column}: {expected(problem)}"
    findings.error("invalid-json", "", message, "write one complete JSON object per line")


def deeper_than(value: Any, levels: int) -> bool:
    """Return whether objects and lists are nested deeper than a number of levels."""
    layer = [value]
    for _ in range(levels):
        following: list[Any] = []
        for item in layer:
            if isinstance(item, dict):
                following.extend(child for child in item.values() if isinstance(child, (dict, list)))
            elif isinstance(item, list):
                following.extend(child for child in item if isinstance(child, (dict, list)))
        if not following:
            return False
        layer = following
    return True


def has_surrogate(text: str) -> bool:
    r"""Return whether a text has half a surrogate pair: `\ud800` in JSON creates one, and UTF-8 cannot represent it."""
    if text.isascii():
        return False
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False
