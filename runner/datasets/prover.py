"""The fast path: proves lines good, a block of a file at a time; whatever it cannot prove, the exact parser reads.

A line is proven good when

* the typed decoder takes it (`shapes`), and its turns, texts and images are in order (`tables`);
* its JSON has as many strings as its type needs, for the decoder lets a key pass that is there twice: the quotes of a
  whole block are counted at once, and line by line only where they do not add up;
* no text holds a control character.

Where a text may hold a secret, an e-mail address or a control token, the line is good and the place is noted. All texts
of a block are searched at once, after decoding, so that no escape can hide anything.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from io import BytesIO
from itertools import accumulate, islice
from typing import Any

import msgspec
from ahocorasick_rs import BytesAhoCorasick, Implementation, MatchKind

from runner.datasets import digests, scanning, texts
from runner.datasets.block import EMAIL, SECRET, TOKEN, Anchored, Block
from runner.datasets.digests import IMAGE, PART, TURN
from runner.datasets.examples import Format
from runner.datasets.shapes import DECODE_ERRORS
from runner.datasets.tables import READERS, Reader, Table

# Around an anchor, in UTF-8: what the exact patterns of `texts` demand at least. All of it is ASCII.
_SECRET = re.compile(
    rb"-----BEGIN [A-Z ]{0,60}PRIVATE KEY|A[KS]IA[0-9A-Z]{16}|AIza[0-9A-Za-z_\-]{35}|sk-[A-Za-z0-9_\-]{32}"
    rb"|hf_[A-Za-z0-9]{30}|gh[pousr]_[A-Za-z0-9]{36}|xox[abprs]-[A-Za-z0-9-]{10}"
)
_EMAIL = re.compile(rb"[A-Za-z0-9._%+-]@[A-Za-z0-9-]+\.")
_JOINT = TURN.encode()
_SAMPLED = 2
"""Lines tried with the other types when the type of the last block does not suit."""

Search = Callable[[bytes], list[tuple[int, int, int]]]


def _search(patterns: list[bytes]) -> Search:
    """Return a search for several patterns at once: (pattern, start, end) of each place.

    With up to three different first bytes the library looks for these bytes, which is slow where they are frequent;
    with more it compares whole vectors. Patterns that are in no text see to that.
    """
    length = min(map(len, patterns))
    patterns = [*patterns, *(bytes([code]) * length for code in range(1, 5))]
    machine = BytesAhoCorasick(patterns, matchkind=MatchKind.LeftmostFirst, implementation=Implementation.DFA)
    return machine.find_matches_as_indexes


@dataclass(slots=True)
class _Shape:
    decoder: msgspec.json.Decoder[Any]
    read: Reader
    format: Format


@dataclass(slots=True)
class Proven:
    """The lines of a block."""

    format: Format
    """Of the good lines."""
    count: int
    """Of all lines, blank ones too."""
    table: Table
    """The good lines."""
    index: list[int]
    """Index in the block of each good line."""
    contents: list[bytes]
    """`Table.contents` in UTF-8."""
    anchors: dict[int, int] = field(default_factory=dict)
    """Place in the table to the kinds of anchors there."""
    doubtful: list[tuple[int, bytes]] = field(default_factory=list)
    """Index and bytes of each line for the exact parser, blank ones left out."""


class Prover:
    """Proves the lines of blocks good.

    Args:
        images: whether the base model takes images.
    """

    def __init__(self, *, images: bool) -> None:
        self.images = images
        self._shapes = [_Shape(msgspec.json.Decoder(kind), read, form) for kind, read, form in READERS]
        tokens, secrets = texts.SPECIAL_TOKENS, texts.ANCHORS
        self._tokens = len(tokens)
        self._whole = True
        self._anchors = _search([anchor.encode() for anchor in (*tokens, *secrets)])
        # Two searches with few patterns are several times faster than one with all of them.
        self._c1 = _search([chr(code).encode() for code in range(0x80, 0xA0)])
        beyond = [0x200B, 0x2060, 0xFEFF, 0xFFFD, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
        self._beyond = _search([chr(code).encode() for code in beyond])

    def read(self, block: bytes) -> Proven:
        """Sort the lines of a block.

        Args:
            block: whole lines, the last one's line end may be missing.
        """
        quotes = scanning.quotes(block)  # first, while the block is in the processor's cache
        shape, rows, holes, lines = self._decode(block)
        table = shape.read(rows, self.images)
        count = len(rows) + len(holes)
        index = table.rows
        if holes:
            missing = set(holes)
            lines_of_rows = [line for line in range(count) if line not in missing]
            index = [lines_of_rows[row] for row in index]
        proven = Proven(shape.format, count, table, index, list(map(str.encode, table.contents)))
        suspects = self._search_texts(proven)
        if len(index) < count:
            lines = lines or list(BytesIO(block))
            proved = set(index)
            quotes -= sum(scanning.quotes(data) for line, data in enumerate(lines) if line not in proved)
        if quotes != sum(table.quotes):
            lines = lines or list(BytesIO(block))
            suspects |= {
                place
                for place, (line, expected) in enumerate(zip(index, table.quotes, strict=True))
                if scanning.quotes(lines[line]) != expected
            }
        if suspects:
            proven = _without(proven, suspects)
        if len(proven.index) < count:
            lines = lines or list(BytesIO(block))
            good_lines = set(proven.index)
            proven.doubtful = [
                (line, data) for line, data in enumerate(lines) if line not in good_lines and not data.isspace()
            ]
        return proven

    def scan(self, block: bytes) -> Block:
        """Sort the lines of a block, see `BlockReader`."""
        proven = self.read(block)
        table, index = proven.table, proven.index
        prompts, wholes = digests.digests(proven.contents, table.turns)
        if len(index) < proven.count:
            prompts, wholes = (_spread(found, index, proven.count) for found in (prompts, wholes))
        readings, bounds = table.readings, table.bounds if proven.anchors else []
        return Block(
            count=proven.count,
            formats={proven.format: index[0]} if index else {},
            index=index,
            turns=table.turns,
            written=table.characters(),
            images=[reading.images for reading in readings] if readings is not None else None,
            prompts=array("Q", prompts),
            wholes=array("Q", wholes),
            anchored=[
                Anchored(place, turn_texts(table.contents[bounds[place] : bounds[place + 1]]), kinds)
                for place, kinds in sorted(proven.anchors.items())
            ],
            doubtful=proven.doubtful,
            answers=lambda: [len(turns[-1]) for turns in table.conversations()],
            conversations=table.conversations,
        )

    def _decode(self, block: bytes) -> tuple[_Shape, list[Any], list[int], list[bytes]]:
        """Return the type that suits a block, decoded lines and the indices of those that could not be.

        The lines themselves come last; none where all could be decoded at once.
        """
        shape = self._shapes[0]
        if self._whole:
            whole = _all_decoded(block, shape)
            if whole is not None:
                return shape, whole, [], []
        lines = list(BytesIO(block))
        rows, holes = _decoded(lines, shape)
        if holes:
            # The next block is most likely written in the same way, so other types are only tried where this one fails.
            sample = [line for line in holes[:64] if not lines[line].isspace()][:_SAMPLED]
            missing = set(holes)
            sample += list(islice((line for line in range(len(lines)) if line not in missing), _SAMPLED))
            best = sum(_takes(shape, lines[line]) for line in sample)
            for other in self._shapes[1:]:
                taken = sum(_takes(other, lines[line]) for line in sample)
                if taken > best:
                    shape, best = other, taken
            if shape is not self._shapes[0]:
                self._shapes.remove(shape)
                self._shapes.insert(0, shape)
                rows, holes = _decoded(lines, shape)
        # Where one block has broken lines, the next one will have them.
        self._whole = not holes
        return shape, rows, holes, lines

    def _search_texts(self, proven: Proven) -> set[int]:
        """Note anchors, settle the quotes; return the places of lines with a control character."""
        table, pieces = proven.table, proven.contents
        if not pieces:
            return set()
        joined = _JOINT.join(pieces)
        if table.readings is None:
            suspects = _rows_of(self._controls(pieces, joined), table.turns)
            if scanning.ends_with_backslash(pieces, joined):
                for row in _rows_of(
                    [place for place, piece in enumerate(pieces) if piece.endswith(b"\\")], table.turns
                ):
                    table.quotes[row] -= 1
        else:
            # A turn may be of several texts, with marks between them and for images.
            parts = [text.encode() for reading in table.readings for text in reading.texts]
            counts = [len(reading.texts) for reading in table.readings]
            suspects = _rows_of(self._controls(parts, _JOINT.join(parts)), counts)
            pieces = [text.encode() for text in turn_texts(table.contents)]
            joined = _JOINT.join(pieces)
        if hits := self._hits(joined):
            rows = _rows_of(_places(pieces, [start for start, _ in hits]), table.turns)
            for row, (_, kind) in zip(rows, hits, strict=True):
                proven.anchors[row] = proven.anchors.get(row, 0) | kind
        return set(suspects)

    def _hits(self, joined: bytes) -> list[tuple[int, int]]:
        """Return where in a text an anchor is, and of which kind."""
        hits: list[tuple[int, int]] = []
        for number, start, _ in self._anchors(joined):
            if number < self._tokens:
                hits.append((start, TOKEN))
            elif _SECRET.match(joined, start):
                hits.append((start, SECRET))
        start = joined.find(b"@")
        while start >= 0:
            if _EMAIL.match(joined, max(0, start - 1)):
                hits.append((start, EMAIL))
            start = joined.find(b"@", start + 1)
        return hits

    def _controls(self, pieces: list[bytes], joined: bytes) -> list[int]:
        """Return which pieces have a control character or another that does not belong into a text."""
        suspects: list[int] = []
        # One stands between any two pieces.
        if scanning.controls(joined) >= len(pieces):
            suspects = [place for place, piece in enumerate(pieces) if scanning.controls(piece)]
        if joined.isascii():
            return suspects
        wide = _JOINT.join([piece for piece in pieces if not piece.isascii()])
        if (b"\xc2" in wide and self._c1(wide)) or self._beyond(wide):
            suspects += [place for place, piece in enumerate(pieces) if self._c1(piece) or self._beyond(piece)]
        return suspects


def _spread(found: list[int], index: list[int], count: int) -> list[int]:
    """Put the numbers of good lines in their places among all lines, and 0 in the others."""
    spread = [0] * count
    for line, number in zip(index, found, strict=True):
        spread[line] = number
    return spread


def turn_texts(turns: Iterable[str]) -> list[str]:
    """Return the text of each turn, without images and joints."""
    return [
        "".join(part for part in turn.split(PART) if not part.startswith(IMAGE))
        if IMAGE in turn or PART in turn
        else turn
        for turn in turns
    ]


def _all_decoded(block: bytes, shape: _Shape) -> list[Any] | None:
    """Return the decoded lines if all of them can be decoded: quicker than line by line."""
    try:
        rows = shape.decoder.decode_lines(block)
    except DECODE_ERRORS:
        return None
    return rows if scanning.one_object_a_line(block, len(rows)) else None


def _decoded(lines: list[bytes], shape: _Shape) -> tuple[list[Any], list[int]]:
    rows: list[Any] = []
    holes: list[int] = []
    decoded = map(shape.decoder.decode, lines)
    while True:
        try:
            # Keeps what it has when a line fails, and goes on behind that line.
            rows.extend(decoded)
        except DECODE_ERRORS:
            holes.append(len(rows) + len(holes))
        else:
            return rows, holes


def _takes(shape: _Shape, line: bytes) -> bool:
    try:
        shape.decoder.decode(line)
    except DECODE_ERRORS:
        return False
    return True


def _places(pieces: list[bytes], offsets: list[int]) -> list[int]:
    """Return which piece is at each offset of the joined pieces."""
    if not offsets:
        return []
    starts = list(accumulate([len(piece) + 1 for piece in pieces], initial=0))
    return [bisect_right(starts, offset) - 1 for offset in offsets]


def _rows_of(pieces: list[int], counts: list[int]) -> list[int]:
    """Return the row that each piece is of, when each row has so many."""
    if not pieces:
        return []
    ends = list(accumulate(counts))
    return [bisect_right(ends, piece) for piece in pieces]


def _without(proven: Proven, bad: set[int]) -> Proven:
    keep = [place for place in range(len(proven.index)) if place not in bad]
    bounds = proven.table.bounds
    return Proven(
        proven.format,
        proven.count,
        proven.table.without(bad),
        [proven.index[place] for place in keep],
        [content for place in keep for content in proven.contents[bounds[place] : bounds[place + 1]]],
        {new: proven.anchors[place] for new, place in enumerate(keep) if place in proven.anchors},
    )
