"""Text for terminals: harmless, measured in columns, cut to a width."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TextIO

from runner.prices import amount as amount

if TYPE_CHECKING:
    import datetime

_EXCERPT = 2000
"""Characters of a line that are shown."""
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # C0, DEL and C1: escape sequences start with one of them
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # bidirectional controls: show text in another order than it is
    "\u2028\u2029\ufeff"  # line breaks and marks that a terminal does not show
    "\ud800-\udfff]"  # lone surrogates: cannot be written as UTF-8
)
_UNSAFE_BUT_LINES = re.compile(_UNSAFE.pattern.replace("\x00-\x1f", "\x00-\x08\x0b-\x1f"))


def visible(text: str, *, lines: bool = False) -> str:
    r"""Return text with every control character spelled out (`\x1b`), so that no remote text steers the terminal.

    Args:
        text: anything, from anywhere.
        lines: keep line feeds and tabs, for text of several lines.
    """
    return (_UNSAFE_BUT_LINES if lines else _UNSAFE).sub(_spelled, text)


def _spelled(match: re.Match[str]) -> str:
    code = ord(match[0])
    short = {9: "\\t", 10: "\\n", 13: "\\r"}.get(code)
    return short or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")


def json_safe(document: str) -> str:
    r"""Return a JSON text with unsafe characters inside its strings as `\uXXXX`, which means the same to a parser."""
    return _UNSAFE_BUT_LINES.sub(lambda match: f"\\u{ord(match[0]):04x}", document)


def width(text: str) -> int:
    """Return how many terminal columns a text takes: wide East Asian characters and emoji two, combining marks none."""
    if text.isascii():
        return len(text)
    import unicodedata

    columns = 0
    for character in text:
        if unicodedata.category(character) in {"Mn", "Me", "Cf"}:
            continue
        columns += 2 if unicodedata.east_asian_width(character) in "WF" else 1
    return columns


def padded(text: str, columns: int, *, right: bool = False) -> str:
    """Return a text filled up with spaces to a width; `right` aligns it to the right, as numbers are."""
    gap = " " * (columns - width(text))
    return gap + text if right else text + gap


_PLAIN_CHARACTERS = {
    "\u2013": "-",  # en dash
    "\u2014": "-",  # em dash
    "\u2018": "'",
    "\u2019": "'",
    "\u201c": '"',
    "\u201d": '"',
    "\u2026": "...",
    "\u00b7": "|",  # middle dot
    "\u00d7": "x",
    "\u2192": "->",
    "\u2264": "<=",
    "\u2265": ">=",
    "\u2502": "|",  # box drawing
    "\u2588": "#",  # full block
    "\u258f": "|",  # eighth of a block
}


def speaks_unicode(stream: TextIO | None) -> bool:
    """Tell whether what reads a stream shows all characters."""
    return (getattr(stream, "encoding", None) or "").lower().replace("-", "") in {"utf8", "utf8sig"}


def replaced(error: UnicodeError) -> tuple[str, int]:
    r"""Handle an error of `codecs`: a character that a terminal cannot show becomes a plain one, else its number."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    spelled = "".join(
        _PLAIN_CHARACTERS.get(character) or character.encode("ascii", "backslashreplace").decode("ascii")
        for character in error.object[error.start : error.end]
    )
    return spelled, error.end


def ago(moment: datetime.datetime | None) -> str:
    """Return how long ago a time was: `12 s ago`; `-` for none."""
    if moment is None:
        return "-"
    import datetime

    return until((moment - datetime.datetime.now(datetime.UTC)).total_seconds())


def size(octets: int) -> str:
    """Return a number of bytes in binary units: `3.2 MiB`."""
    value = float(octets)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def seconds_of(text: str) -> float:
    """Return the seconds of a duration such as `90`, `45s`, `90m`, `2h30m` or `1d`.

    Raises:
        ValueError: it is none.
    """
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    match = re.fullmatch(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", text.strip().lower())
    if not text or match is None or not any(match.groups()):
        raise ValueError(f"{text!r} is not a duration, such as 45s, 90m, 2h30m or 1d")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


def duration(seconds: float) -> str:
    """Return seconds in the two largest units: `2 h 05 min`, `3 min 20 s`, `12 s`."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def until(seconds: float) -> str:
    """Return how far a time is away: `in 2 h 05 min`, `12 s ago`."""
    return f"in {duration(seconds)}" if seconds >= 0 else f"{duration(-seconds)} ago"


def excerpt(line: str) -> str:
    """Return the beginning of a line for people: an inline image has megabytes."""
    return line if len(line) <= _EXCERPT else line[:_EXCERPT] + "…"
