"""The result for the lines of a block, the same for all readers."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runner.datasets.examples import Finding, Format, Role

Shortened = tuple[bytes, list[tuple[int, int]], bool]
"""A line with long texts shortened. For each cut: the number of characters before it, and the number of omitted
characters. Then whether all errors of the shortened line are those of the line; if not, only its JSON errors are.
Everything else must be read from the line itself."""
Doubtful = tuple[int, bytes | dict[str, Any] | None, Shortened | None, bool]
"""A line for the exact parser: its number; its bytes or the decoded value, None if the line is too long;
the shortened line, if there is one; and whether it is plain: `decode_plain` reads it, and no text has a control."""


@dataclass(slots=True)
class Block:
    """The lines of a block. Unless stated otherwise, sequences have one entry for each good line.

    Lines are numbered from 1, as in the source.
    """

    count: int
    """Number of lines, including blank ones."""
    rows: int
    """Number of lines that are not blank, without the doubtful lines."""
    formats: dict[Format, int]
    """Formats of good lines, with the line number of the first occurrence of each."""
    lines: list[int]
    """Numbers of the good lines."""
    turns: list[int]
    """Number of turns; odd if the first is the system's."""
    written: list[int]
    """Number of characters in all texts."""
    images: list[int] | None
    """Number of images; None if all turns have a single part without images."""
    prompts: array[int]
    """Digest of the prompt, for each line of the block; 0 for lines that are not good."""
    wholes: array[int]
    """Digest of the whole example, likewise."""
    findings: list[Finding]
    """Errors and warnings, in line order; only the exact parser reports any."""
    remarked: Mapping[int, int]
    """Number of each remark (see `texts.remark`), with its number of occurrences."""
    remarks: Callable[[], list[tuple[int, Role, int]]]
    """Line number, role of the turn and number of each remark, in the order of lines, turns and numbers."""
    doubtful: list[Doubtful]
    """The lines for the exact parser, without blank ones."""
    answers: Callable[[], list[int]]
    """Number of characters in the last turn."""
    conversations: Callable[[], Sequence[Sequence[str]]]
    """Contents of the turns (see `contents.content`), if the reader was asked for them."""
