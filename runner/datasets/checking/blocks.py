"""What a reader says of the lines of a block, whichever reader it is."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runner.datasets.examples import Finding, Format, Role

Shortened = tuple[bytes, list[tuple[int, int]], bool]
"""A line in which long texts are cut short. Of each cut: how many characters of it stand before, and how many are left
out. Then whether its errors are those of the line; else only what is wrong with its JSON is. What else there is to say
of a line only the line tells."""
Doubtful = tuple[int, bytes | dict[str, Any] | None, Shortened | None, bool]
"""A line for the exact parser: its number; its bytes or what was decoded, None for a line that is too long;
the line cut short, where it may be; and whether it is plain: `decode_plain` reads it, and no text holds a control."""


@dataclass(slots=True)
class Block:
    """The lines of a block. Sequences have an entry for each good line where nothing else is said.

    Lines have the numbers that they have in what is read, from 1.
    """

    count: int
    """Number of lines, including blank ones."""
    rows: int
    """Number of lines that are not blank, without the doubtful ones."""
    formats: dict[Format, int]
    """Formats of good lines, with the number of the first line of each."""
    lines: list[int]
    """Their numbers."""
    turns: list[int]
    """Number of turns; odd where the first is the system's."""
    written: list[int]
    """Characters of all texts."""
    images: list[int] | None
    """Number of images; None where no turn is of several parts or has an image."""
    prompts: array[int]
    """Digest of the prompt, for each line of the block; 0 for those that are not good."""
    wholes: array[int]
    """Digest of everything, likewise."""
    findings: list[Finding]
    """What is wrong, in the order of lines; only the exact parser has any."""
    remarked: Mapping[int, int]
    """Number of each remark, see `texts.remark`, with how often it is made."""
    remarks: Callable[[], list[tuple[int, Role, int]]]
    """Number of the line, role of the turn and number of each remark, in the order of lines, turns and numbers."""
    doubtful: list[Doubtful]
    """The lines for the exact parser, blank ones left out."""
    answers: Callable[[], list[int]]
    """Characters of the last turn."""
    conversations: Callable[[], Sequence[Sequence[str]]]
    """Contents of the turns, see `contents.content`; only where the reader was asked for them."""
