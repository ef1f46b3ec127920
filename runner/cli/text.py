"""Text for terminals: safe, measured in columns, truncated to a width."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, TextIO

from runner.formatting import duration as duration
from runner.formatting import json_safe as json_safe
from runner.formatting import seconds_of as seconds_of
from runner.formatting import size as size
from runner.formatting import visible as visible
from runner.prices import amount as amount

if TYPE_CHECKING:
    import datetime

_EXCERPT = 2000
"""Maximum number of displayed characters of a line."""


def standard_input() -> str:
    """Return all of standard input. Raises ConfigurationError if it is not UTF-8."""
    import sys

    from runner.local_files import text_of

    try:
        content = sys.stdin.buffer.read()
    except AttributeError:  # a text stream has replaced it
        return sys.stdin.read()
    return text_of(content, "standard input")


def said(text: str) -> str:
    """Return a text for a model; `-` means standard input. Raises ConfigurationError."""
    return standard_input() if text == "-" else text


def require_one_dash(given: Iterable[object]) -> None:
    """Return if at most one value is `-`. Raises ConfigurationError."""
    from runner.errors import ConfigurationError

    if [str(item) for item in given].count("-") > 1:
        raise ConfigurationError("standard input can be only one of these texts", hint="give - once")


def width(text: str) -> int:
    """Return the terminal columns of a text: two for wide East Asian characters and emoji, none for combining marks."""
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
    """Return a text padded with spaces to a width; `right` aligns it right, for numbers."""
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
    """Return whether the reader of a stream shows all characters."""
    return (getattr(stream, "encoding", None) or "").lower().replace("-", "") in {"utf8", "utf8sig"}


def of_few_characters(variables: Mapping[str, str]) -> bool:
    """Return whether the locale says that the terminal only shows ASCII; Python writes UTF-8 regardless."""
    names = ["LC_ALL", "LC_CTYPE", "LANG"]
    if variables.get("LC_CTYPE") == "C.UTF-8":  # Python's own handler for the locale `C`
        names.remove("LC_CTYPE")
    said = next((value for name in names if (value := variables.get(name))), "")
    return said in {"C", "POSIX"}


def replaced(error: UnicodeError) -> tuple[str, int]:
    r"""Handle an error of `codecs`: a character that the terminal cannot show becomes a plain one, or its number."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    spelled = "".join(
        _PLAIN_CHARACTERS.get(character) or character.encode("ascii", "backslashreplace").decode("ascii")
        for character in error.object[error.start : error.end]
    )
    return spelled, error.end


def ago(moment: datetime.datetime | None) -> str:
    """Return the age of a time: `12 s ago`; `-` for none."""
    if moment is None:
        return "-"
    import datetime

    return until((moment - datetime.datetime.now(datetime.UTC)).total_seconds())


def until(seconds: float) -> str:
    """Return the distance of a time: `in 2 h 05 min`, `12 s ago`."""
    return f"in {duration(seconds)}" if seconds >= 0 else f"{duration(-seconds)} ago"


def excerpt(line: str) -> str:
    """Return the beginning of a line for people, because a line can contain megabytes of images."""
    return line if len(line) <= _EXCERPT else line[:_EXCERPT] + "…"
