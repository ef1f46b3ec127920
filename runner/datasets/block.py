"""What a fast reader says of the lines of a block, whichever reader it is."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from runner.datasets.examples import Format

TOKEN, SECRET, EMAIL = 1, 2, 4
"""Kinds of anchors: where a control token, a secret or an e-mail address may be."""
ANCHORS = TOKEN | SECRET | EMAIL


class Anchored(NamedTuple):
    """A good line whose texts hold anchors."""

    place: int
    """Among the good lines."""
    texts: list[str]
    """Of each turn."""
    kinds: int


@dataclass(slots=True)
class Block:
    """The lines of a block. Sequences have an entry for each good line where nothing else is said."""

    count: int
    """Of all lines, blank ones too."""
    formats: dict[Format, int]
    """Of good lines, with the index of the first."""
    index: list[int]
    """Index in the block."""
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
    anchored: list[Anchored]
    doubtful: list[tuple[int, bytes]]
    """Index and bytes of each line for the exact parser, blank ones left out."""
    answers: Callable[[], list[int]]
    """Characters of the last turn."""
    conversations: Callable[[], Sequence[Sequence[str]]]
    """Contents of the turns, see `digests.content`; only where the reader was asked for them."""


class BlockReader(Protocol):
    """Reads blocks of whole lines; the last one's line end may be missing."""

    def scan(self, block: bytes) -> Block:
        """Sort the lines of a block."""
        ...
