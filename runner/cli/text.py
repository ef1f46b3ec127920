"""Text for terminals: harmless, measured in columns, cut to a width."""

from __future__ import annotations

from runner.formatting import duration as duration
from runner.formatting import json_safe as json_safe
from runner.formatting import seconds_of as seconds_of
from runner.formatting import size as size
from runner.formatting import visible as visible
from runner.prices import amount as amount

_EXCERPT = 2000
"""Characters of a line that are shown."""


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


def suggestion(name: str, known: list[str]) -> str:
    """Return `did you mean …?` for the nearest known name, or ""."""
    import difflib

    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else ""


def excerpt(line: str) -> str:
    """Return the beginning of a line for people: an inline image has megabytes."""
    return line if len(line) <= _EXCERPT else line[:_EXCERPT] + "…"
