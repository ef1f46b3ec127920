"""From bytes to JSON objects, strictly: what the service's reader would trip over is found here, with its line.

Python's own decoder is used, tightened where it is lenient (NaN, duplicate keys, lone surrogates), because a lenient
reader hides errors until the job has been queued. A line is bounded before it is decoded, so that a file without line
ends costs bounded memory.
"""

from __future__ import annotations

import json
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from runner.datasets.decoding import NotJson
from runner.datasets.examples import Finding, Severity

MAX_LINE_BYTES = 64 * 1024 * 1024
"""Bound of one example, inline images included. The service publishes none; this one only protects this machine."""

MAX_DEPTH = 64
"""Bound of nesting; the documented formats need 7."""

_SIGNATURES = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
    b"PAR1": "Parquet",
    b"%PDF": "PDF",
}


# A file may have a million broken lines, and the constructor of a frozen class takes as long as decoding a short line.
_SET = [Finding.__dict__[name].__set__ for name in ("code", "severity", "file", "line", "path", "message", "fix")]
_set_code, _set_severity, _set_file, _set_line, _set_path, _set_message, _set_fix = _SET


class Findings:
    """Collects what is wrong with one line."""

    __slots__ = ("failed", "file", "items", "line")

    def __init__(self, file: str, line: int) -> None:
        self.file = file
        self.line = line
        self.items: list[Finding] = []
        self.failed = False
        """Whether an error was added."""

    def add(self, code: str, severity: Severity, path: str, message: str, fix: str = "") -> None:
        """Add a finding at a JSON path of this line; halves of surrogate pairs, which no file takes, are spelled."""
        if not (path.isascii() and message.isascii() and fix.isascii()):
            path, message, fix = (text.encode("utf-8", "backslashreplace").decode() for text in (path, message, fix))
        if severity == "error":
            self.failed = True
        finding = Finding.__new__(Finding)
        _set_code(finding, code)
        _set_severity(finding, severity)
        _set_file(finding, self.file)
        _set_line(finding, self.line)
        _set_path(finding, path)
        _set_message(finding, message)
        _set_fix(finding, fix)
        self.items.append(finding)

    def error(self, code: str, path: str, message: str, fix: str = "") -> None:
        """Add what keeps the line from being an example."""
        self.add(code, "error", path, message, fix)

    def warning(self, code: str, path: str, message: str, fix: str = "") -> None:
        """Add what is allowed and probably not meant."""
        self.add(code, "warning", path, message, fix)


class RawLine(NamedTuple):
    """One line of a file, without its line end; `data` is cut at `MAX_LINE_BYTES` and then `too_long` is set."""

    number: int
    data: bytes
    too_long: bool = False


def raw_lines(stream: BinaryIO, *, limit: int = MAX_LINE_BYTES) -> Iterator[RawLine]:
    """Yield the lines of a binary stream, each at most `limit` bytes, without holding more than one."""
    number = 0
    while True:
        data = stream.readline(limit + 2)
        if not data:
            return
        number += 1
        if len(data.rstrip(b"\r\n")) > limit:
            yield RawLine(number, data[:limit], too_long=True)
            while data and not data.endswith(b"\n"):
                data = stream.readline(1 << 20)
            continue
        yield RawLine(number, data.rstrip(b"\r\n"))


def sniff_container(path: Path) -> str | None:
    """Name what a file is when it is plainly no text: compressed, UTF-16, Parquet, PDF."""
    with path.open("rb") as stream:
        head = stream.read(4)
    if head[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        return "UTF-16"
    return next((name for signature, name in _SIGNATURES.items() if head.startswith(signature)), None)


def decode_object(raw: RawLine, findings: Findings) -> dict[str, Any] | None:
    """Return the JSON object of a line, or None after adding what is wrong with it.

    A blank line gives None and no finding.
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


class _Strict(threading.local):
    """The decoder, made once, and what it has seen that it should not have."""

    def __init__(self) -> None:
        self.duplicates: list[str] = []
        self.constants: list[str] = []
        # Nothing but these two lists outlives a call, and each thread has its own.
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
        add_not_json(NotJson(text, error.msg, error.pos), findings)
        return None
    except ValueError:
        # The only other ValueError of json.loads: an integer beyond the interpreter's digit limit.
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
    # Every level has a bracket that closes it.
    if text.count("}") + text.count("]") > MAX_DEPTH and _deeper_than(value, MAX_DEPTH):
        findings.error("too-deep", "", f"nested deeper than {MAX_DEPTH} levels")
        return None
    return None if findings.failed else value


def add_not_json(wrong: NotJson, findings: Findings) -> None:
    """Add the finding of a line that is no JSON."""
    text, problem, place = wrong
    column = place - text.rfind("\n", 0, place)
    if problem == "Extra data":
        rest = text[place:].lstrip()
        what = "a second JSON value" if rest[:1] in {"{", "["} else f"{rest[:20]!r}"
        message = f"{what} follows the object at column {column}"
    else:
        shown = text[place : place + 20]
        near = f" near {shown!r}" if shown else " at the end of the line"
        message = f"{problem} at column {column}{near}"
    findings.error("invalid-json", "", message, "one complete JSON object a line")


def _deeper_than(value: Any, levels: int) -> bool:
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
    r"""Tell whether a text holds half a surrogate pair, which `\ud800` in JSON can make and UTF-8 cannot hold."""
    if text.isascii():
        return False
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False
