"""The fast path: proves lines good, a block of a file at a time; whatever it cannot prove, the exact parser reads.

A line is proven good when the typed decoder takes it, its turns and texts are in order, and nothing in it can be one of
the things that only the exact parser names. Those are found by a few searches over the whole block:

* duplicate keys, which the decoder lets pass: the names of keys stand in the block exactly as often as its good lines
  have keys (an escaped letter in a key is caught by the next search);
* control characters and escaped ASCII (`\\u0041`), which could hide an anchor or a key;
* anchors of secrets, e-mail addresses and control tokens (`texts`).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
from ahocorasick_rs import BytesAhoCorasick, Implementation, MatchKind

from runner.datasets import shapes, texts
from runner.datasets.examples import Format
from runner.datasets.shapes import Reading

_ESCAPED, _CONTROL = 1, 2
TOKEN, SECRET, EMAIL = 4, 8, 16
"""Kinds of anchors: where a control token, a secret or an e-mail address may be."""
ANCHORS = TOKEN | SECRET | EMAIL

# Around an anchor, in the bytes of the file: what the exact patterns of `texts` demand at least. All of it is ASCII,
# and escaped ASCII sends a line to the exact parser.
_SECRET = re.compile(
    rb"-----BEGIN [A-Z ]{0,60}PRIVATE KEY|A[KS]IA[0-9A-Z]{16}|AIza[0-9A-Za-z_\-]{35}|sk-[A-Za-z0-9_\-]{32}"
    rb"|hf_[A-Za-z0-9]{30}|gh[pousr]_[A-Za-z0-9]{36}|xox[abprs]-[A-Za-z0-9-]{10}"
)
_EMAIL = re.compile(rb"[A-Za-z0-9._%+-]@[A-Za-z0-9-]+\.")
_ESCAPE = re.compile(
    rb".?(\\u)(?:00([0-7])|00[89]|200[bB]|202[a-eA-E]|206[06-9]|[fF][fF][fF][dD]|[fF][eE][fF][fF])", re.DOTALL
)

Good = tuple[int, Reading, int]
"""Index of the line in its block, what it is made of, and the kinds of anchors in its texts."""
Doubtful = tuple[int, int, int]
"""Index of the line, offset of its first byte and of its line end."""


Search = Callable[[bytes], list[tuple[int, int, int]]]


def _search(patterns: list[bytes]) -> Search:
    """Return a search for a few patterns, all at once.

    With up to three different first bytes the library looks for these bytes, which is slow where they are frequent
    (backslash, quote, zero); with more it compares whole vectors. Patterns that are in no JSON see to that: measured,
    they make a search up to ten times faster.
    """
    length = min(map(len, patterns))
    patterns = [*patterns, *(bytes([code]) * length for code in range(1, 5))]
    machine = BytesAhoCorasick(patterns, matchkind=MatchKind.LeftmostFirst, implementation=Implementation.DFA)
    return machine.find_matches_as_indexes


@dataclass(slots=True)
class _Shape:
    decode: Callable[[Any], Any]
    read: Callable[[Any, bool], Reading | None]
    format: Format
    keys: Search
    """Finds all that `Reading.keys` counts."""
    marks: Search
    """Finds less: what `Reading.marks` counts, as long as the keys stand in their usual order."""


class Prover:
    """Proves the lines of blocks good.

    Args:
        images: whether the base model takes images.
    """

    def __init__(self, *, images: bool) -> None:
        self.images = images
        self._shapes = [
            _Shape(
                msgspec.json.Decoder(kind).decode,
                read,
                form,
                _search(shapes.key_strings(kind)),
                _search(shapes.mark_strings(kind)),
            )
            for kind, read, form in shapes.READERS
        ]
        # Several small searches are several times faster than one with all patterns: few patterns fit the vector unit.
        self._secrets = _search([anchor.encode() for anchor in texts.ANCHORS])
        self._tokens = _search([token.encode() for token in texts.SPECIAL_TOKENS])
        replacement = [bytes(letters) for letters in itertools.product(b"fF", b"fF", b"dD")]
        mark = [bytes(letters) for letters in itertools.product(b"fF", b"eE", b"fF")]
        self._escapes = _search(
            [*(b"00%d" % digit for digit in range(10)), b"200", b"202", b"206", *replacement, *mark]
        )
        self._controls = _search([b"\\b", b"\\f"])
        self._c1 = _search([bytes((0xC2, code)) for code in range(0x80, 0xA0)])
        beyond = [0x200B, 0x2060, 0xFEFF, 0xFFFD, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
        self._beyond = _search([chr(code).encode() for code in beyond])

    def prove(self, block: bytes) -> tuple[Format, list[Good], list[Doubtful], int]:
        """Sort the lines of a block.

        Args:
            block: whole lines, the last one's line end may be missing.

        Returns:
            The format of the good lines, the good lines, the others, and the number of lines; blank lines are neither.
        """
        flags = self._flags(block)
        shape = next((shape for shape in self._shapes if _suits(block, shape)), self._shapes[0])
        good, doubtful, count, marks = self._pass(block, shape, flags)
        # The cheaper count first; where keys stand in another order, it does not add up, and the full one decides.
        if _occurrences(shape.marks, block, doubtful) != marks:
            keys = sum([reading.keys for _, reading, _ in good])
            if _occurrences(shape.keys, block, doubtful) != keys:
                good, doubtful = _counted(block, shape, good, doubtful)
        if shape is not self._shapes[0]:
            # The next block is most likely written in the same way.
            self._shapes.remove(shape)
            self._shapes.insert(0, shape)
        return shape.format, good, doubtful, count

    def _pass(
        self, block: bytes, shape: _Shape, flags: list[tuple[int, int]]
    ) -> tuple[list[Good], list[Doubtful], int, int]:
        good: list[Good] = []
        doubtful: list[Doubtful] = []
        decode, read, images = shape.decode, shape.read, self.images
        view = memoryview(block)
        position = index = flag = marks = 0
        size = len(block)
        next_flag = flags[0][0] if flags else size + 1
        while position < size:
            end = block.find(b"\n", position)
            if end < 0:
                end = size
            if end - position < 2 and not block[position:end].strip():
                index += 1  # a blank line
                position = end + 1
                continue
            try:
                reading = read(decode(view[position:end]), images)
            except shapes.DECODE_ERRORS:
                reading = None
            kinds = 0
            if next_flag < end:
                while flag < len(flags) and flags[flag][0] < end:
                    kinds |= flags[flag][1]
                    flag += 1
                next_flag = flags[flag][0] if flag < len(flags) else size + 1
                if reading is not None and not _passes(reading, kinds):
                    reading = None
            if reading is None:
                doubtful.append((index, position, end))
            else:
                marks += reading.marks
                good.append((index, reading, kinds & ANCHORS))
            index += 1
            position = end + 1
        return good, doubtful, index, marks

    def _flags(self, block: bytes) -> list[tuple[int, int]]:
        """Return offsets in a block where a line needs a closer look, in order, and why."""
        flags = [(start, SECRET) for _, start, _ in self._secrets(block) if _SECRET.match(block, start)]
        flags += [(start, TOKEN) for _, start, _ in self._tokens(block)]
        flags += [(start, _CONTROL) for _, start, _ in self._controls(block)]
        for _, start, _ in self._escapes(block):
            if (match := _ESCAPE.match(block, max(0, start - 3))) and _is_escape(block, match.start(1)):
                flags.append((start, _ESCAPED if match[2] else _CONTROL))
        if not block.isascii():
            for search in (self._c1, self._beyond):
                flags += [(start, _CONTROL) for _, start, _ in search(block)]
        start = block.find(b"\x7f")
        while start >= 0:
            flags.append((start, _CONTROL))
            start = block.find(b"\x7f", start + 1)
        start = block.find(b"@")
        while start >= 0:
            if _EMAIL.match(block, max(0, start - 1)):
                flags.append((start, EMAIL))
            start = block.find(b"@", start + 1)
        flags.sort()
        return flags


def _occurrences(search: Search, block: bytes, doubtful: list[Doubtful]) -> int:
    """Count what a search finds in a block, its doubtful lines left out."""
    return len(search(block)) - sum([len(search(block[start:end])) for _, start, end in doubtful])


def _is_escape(block: bytes, position: int) -> bool:
    """Tell a backslash that begins an escape from one that is escaped."""
    before = position
    while before and block[before - 1] == 0x5C:
        before -= 1
    return (position - before) % 2 == 0


def _suits(block: bytes, shape: _Shape) -> bool:
    """Tell whether one of the first lines of a block is of a shape."""
    position = 0
    for _ in range(8):
        end = block.find(b"\n", position)
        try:
            shape.decode(block[position : end if end >= 0 else None])
            return True
        except shapes.DECODE_ERRORS:
            if end < 0:
                return False
        position = end + 1
    return False


def _passes(reading: Reading, kinds: int) -> bool:
    """Look closer at a line with an escape or a control character somewhere."""
    if kinds & _ESCAPED:
        return False
    return not kinds & _CONTROL or not any(map(texts.control_characters, reading.texts))


def _counted(
    block: bytes, shape: _Shape, good: list[Good], doubtful: list[Doubtful]
) -> tuple[list[Good], list[Doubtful]]:
    """Count the keys of each line of a block in which they do not add up."""
    suspects = {index: (start, end) for index, start, end in _lines(block)}
    proven: list[Good] = []
    for line in good:
        start, end = suspects[line[0]]
        if len(shape.keys(block[start:end])) == line[1].keys:
            proven.append(line)
        else:
            doubtful.append((line[0], start, end))
    return proven, sorted(doubtful)


def _lines(block: bytes) -> Iterator[Doubtful]:
    position = index = 0
    while position < len(block):
        end = block.find(b"\n", position)
        if end < 0:
            end = len(block)
        yield index, position, end
        index += 1
        position = end + 1
