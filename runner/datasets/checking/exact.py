"""The exact parser as a reader of blocks: it reads every line, and reports everything that is wrong with it.

Without the compiled package it reads all lines, otherwise those that the compiled scanner leaves undecided. Parsing
goes line by line; digests, anchors and lengths are computed for all lines of a block at once.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from itertools import accumulate, count, pairwise, repeat
from typing import Any, NamedTuple

from runner.datasets.checking.blocks import Block, Doubtful
from runner.datasets.examples import Finding, Format, ImagePart, Role
from runner.datasets.reading.lines import RawLine
from runner.datasets.rules import contents as digests
from runner.datasets.rules import texts
from runner.datasets.rules.json_objects import Findings, decode_block, decode_object, decode_plain
from runner.datasets.rules.parsing import read_turns

_TOKENS = len(texts.SPECIAL_TOKENS)


class _Word(NamedTuple):
    """A control token, or an anchor of a pattern."""

    text: bytes
    number: int
    """Number of its remark."""
    search: Callable[[bytes, int, int], re.Match[bytes] | None]
    """Finds its first occurrence between two places; for an anchor, the first occurrence in a match of its pattern."""


def _words() -> Iterator[_Word]:
    # In bytes, so that classes and word boundaries are those of ASCII.
    for number, token in enumerate(texts.SPECIAL_TOKENS):
        yield _Word(token.encode(), number, re.compile(re.escape(token.encode())).search)
    for number, (_, _, pattern, anchors) in enumerate(texts.PATTERNS, _TOKENS):
        for anchor, offset in anchors.items():
            # The pattern begins with a literal, which the library searches for quickly.
            around = f"{re.escape(anchor)}(?<=(?={pattern})(?s:.{{{offset}}}){re.escape(anchor)})"
            yield _Word(anchor.encode(), number, re.compile(around.encode()).search)


_LONG = [word for word in _words() if len(word.text) > 1]
_SINGLE = [word for word in _words() if len(word.text) == 1]
_WITHIN = [
    [
        (place, other)
        for place in range(len(word.text))
        for other in _LONG
        if other.text.startswith(word.text[place:]) or word.text.startswith(other.text, place)
    ]
    for word in _LONG
]
"""Words that may begin inside each long word, itself included: a search finds only one of several overlapping words."""
_JOINT = digests.TURN.encode()


class ExactReader:
    """Reads all lines of blocks with the exact parser.

    Args:
        images: whether the base model accepts images.
        name: name of the file, for the findings.
        first: whether the first line is the first of its file, which can have a byte order mark.
    """

    def __init__(self, *, images: bool, name: str = "", first: bool = True) -> None:
        self._images = images
        self._name = name
        self._first = 1 if first else 2

    def scan(self, block: bytes | memoryview, before: int = 0) -> Block:
        """Read the lines of a block that comes after `before` other lines."""
        data = bytes(block)
        decoded = decode_block(data)
        if decoded is None:
            lines = data.removesuffix(b"\n").split(b"\n")
            return self.read(zip(count(before + 1), lines, repeat(None), repeat(False)), len(lines), before)
        bodies, plain = decoded
        return self.read(zip(count(before + 1), bodies, repeat(None), plain), len(bodies), before)

    def read(self, doubtful: Iterable[Doubtful], size: int, before: int = 0) -> Block:
        """Read some lines of one or more blocks.

        Args:
            doubtful: the lines to read.
            size: number of all lines of the blocks.
            before: number of lines before the blocks.
        """
        formats: dict[Format, int] = {}
        findings: list[Finding] = []
        lines: list[int] = []
        turns: list[int] = []
        written: list[int] = []
        images: list[int] = []
        contents: list[str] = []
        parted: list[tuple[int, str]] = []
        rows = 0
        wrong = Findings(self._name, 0)
        for number, data, short, plain in doubtful:
            wrong.line = number
            found = None
            if short is not None:
                text, wrong.cuts, sound = short
                body = self._decode(text, wrong, plain)
                if sound and body is not None:
                    read_turns(body, wrong, self._images, not plain)
                if not wrong.failed:
                    wrong = Findings(self._name, number)
            if not wrong.failed:
                body = data if isinstance(data, dict) else self._decode(data, wrong, plain)
                found = read_turns(body, wrong, self._images, not plain)
            if wrong.items:
                findings += wrong.items
                wrong = Findings(self._name, 0)
            elif found is None:
                continue
            rows += 1
            if found is None:
                continue
            formats.setdefault(found[0], number)
            lines.append(number)
            turns.append(len(found[1]))
            characters = pictures = 0
            for _, content in found[1]:
                if not isinstance(content, str):
                    said = "".join([part for part in content if isinstance(part, str)])
                    parted.append((len(contents), said))
                    characters += len(said)
                    pictures += sum([isinstance(part, ImagePart) for part in content])
                    contents.append(digests.content_of(content))
                else:
                    characters += len(content)
                    contents.append(content)
            written.append(characters)
            images.append(pictures)
        encoded = list(map(str.encode, contents))
        prompts, wholes = digests.digests(encoded, turns)
        spoken = contents.copy() if parted else contents
        for place, said in parted:
            spoken[place] = said
        bounds = list(accumulate(turns, initial=0))
        remarks = _remarks(list(map(str.encode, spoken)) if parted else encoded)
        return Block(
            count=size,
            rows=rows,
            formats=formats,
            lines=lines,
            turns=turns,
            written=written,
            images=images if parted else None,
            prompts=_spread(prompts, lines, size, before),
            wholes=_spread(wholes, lines, size, before),
            findings=findings,
            remarked=Counter(number for _, number in remarks),
            remarks=lambda: [(lines[line], role, number) for line, role, number in _placed(remarks, bounds)],
            doubtful=[],
            answers=lambda: [len(contents[end - 1]) for end in bounds[1:]],
            conversations=lambda: [contents[start:end] for start, end in pairwise(bounds)],
        )

    def _decode(self, data: bytes | None, wrong: Findings, plain: bool) -> dict[str, Any] | None:
        if plain and data is not None:
            return decode_plain(data, wrong)
        raw = RawLine(max(wrong.line, self._first), (data or b"").rstrip(b"\r\n"), data is None)
        return decode_object(raw, wrong)


def _spread(found: list[int], lines: list[int], count: int, before: int) -> array[int]:
    """Expand the numbers of good lines to all lines, with 0 for the other lines."""
    if len(lines) == count:
        return array("Q", found)
    spread = array("Q", bytes(8 * count))
    for line, number in zip(lines, found, strict=True):
        spread[line - before - 1] = number
    return spread


@cache
def _find_long() -> texts.Search:
    """Return a search for the long words; including a single-byte word would make it slow."""
    return texts.searcher(word.text for word in _LONG)


def _remarks(spoken: list[bytes]) -> list[tuple[int, int]]:
    """Return the turns that deserve a remark, each with the remark's number. Texts are in UTF-8."""
    if not spoken:
        return []
    joined = _JOINT.join(spoken)
    starts = list(accumulate([len(text) + 1 for text in spoken], initial=0))
    found: dict[tuple[int, int], int] = {}
    searched = set[tuple[int, bytes]]()
    for which, start, _ in _find_long()(joined):
        turn = bisect_right(starts, start) - 1
        for more, word in _WITHIN[which]:
            # Each word counts once per turn, so that many occurrences do not take long.
            if (turn, word.text) in searched or not joined.startswith(word.text, start + more):
                continue
            searched.add((turn, word.text))
            if word.search(joined, start + more, starts[turn + 1]):
                # Only the first control token of a turn counts.
                found.setdefault((turn, max(word.number, _TOKENS - 1)), word.number)
    for word in _SINGLE:
        place = joined.find(word.text)
        while place >= 0:
            turn = bisect_right(starts, place) - 1
            if word.search(joined, place, starts[turn + 1]):
                found[turn, word.number] = word.number
            place = joined.find(word.text, starts[turn + 1])
    return [(turn, found[turn, group]) for turn, group in sorted(found)]


def _placed(remarks: list[tuple[int, int]], bounds: list[int]) -> Iterator[tuple[int, Role, int]]:
    """Yield the place of the line, the role of the turn and the number of each remark.

    Args:
        remarks: turn, counted through all lines, and number.
        bounds: index of the first turn of each line, and the end of the last line's turns.
    """
    for turn, number in remarks:
        line = bisect_right(bounds, turn) - 1
        system = (bounds[line + 1] - bounds[line]) % 2
        place = turn - bounds[line]
        yield line, "system" if system > place else "assistant" if (place - system) % 2 else "user", number
