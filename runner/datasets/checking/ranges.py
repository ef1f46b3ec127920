"""Turns a byte range of a file into `Totals`: a pure function, which runs in this process or in several."""

from __future__ import annotations

import io
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import compress, repeat
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import BinaryIO, Protocol

from runner.datasets.checking.blocks import Block
from runner.datasets.checking.compiled import CompiledReader
from runner.datasets.checking.exact import ExactReader
from runner.datasets.checking.repeats import Repeated, Repeats
from runner.datasets.checking.totals import FINDINGS_KEPT, LINES_NAMED, Tally, Totals
from runner.datasets.examples import Finding
from runner.datasets.reading import native
from runner.datasets.reading.lines import BLOCK_BYTES, MAX_LINE_BYTES, blocks, seek_range
from runner.datasets.reading.sources import Source
from runner.datasets.rules import contents as digests
from runner.datasets.rules import texts
from runner.datasets.tokens.counters import RatioCounter, TokenCounter, open_counter

_HELD = 16
"""Number of blocks that are added up together if they hold no texts: after each switch between the scanner and Python,
the processor's caches hold the other's data."""
_LINES = 16384
"""Number of doubtful lines above which they are read without waiting for other blocks."""
BlockReader = CompiledReader | ExactReader
"""Reads blocks of whole lines; the last line may lack its line end."""


class Engine(Protocol):
    """Reads sources in place of this machine's threads and processes, with the same results."""

    def totals(self, source: Source, settings: Settings) -> Totals:
        """Return the totals of a source, without the digests of its lines."""
        ...

    def repeats(self) -> Repeats:
        """Return which lines repeat other lines of the source that `totals` read last."""
        ...

    def leakage(self) -> Repeated:
        """Return which lines of the source that was read last repeat lines of the source that was read first."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What to check a file for; small, so that it can be sent to another process."""

    images: bool = True
    """Whether the base model accepts images."""
    limit: int | None = None
    """Maximum number of tokens of one example; None without a model."""
    ratio: float
    """Tokens per character, for estimates."""
    tokenizer: Path | None = None
    """Folder of the tokenizer for counting."""
    name: str = ""
    """Name of the file, for the findings."""
    near: bool = False
    """Also look for examples that differ only in case, white space and punctuation."""
    compiled: bool = True
    """Use the compiled scanner if it is installed; otherwise, the exact parser reads every line."""


def totals_of_range(
    path: Path, start: int, end: int, settings: Settings, *, progress: Callable[[int], None] | None = None
) -> Totals:
    """Return the totals of the lines whose first byte is in a range.

    Args:
        path: plain JSONL file.
        start: offset of the first byte; if it is inside a line, that line belongs to the range before.
        end: offset after the last byte.
        settings: what to check for.
        progress: called with the number of bytes read, after each block.
    """
    with io.BufferedReader(path.open("rb", buffering=0), BLOCK_BYTES) as stream:
        return totals_of_stream(stream, start, end, settings, progress=progress)


def totals_of_stream(
    stream: BinaryIO, start: int, end: int, settings: Settings, *, progress: Callable[[int], None] | None = None
) -> Totals:
    """Do the same with a buffered, seekable stream, regardless of the source of its bytes."""
    remaining = seek_range(stream, start, end)
    return RangeChecker(settings, first=not start).read(stream, remaining, progress=progress)


@cache
def _keep_memory() -> None:
    """Make glibc keep a block's memory for the next block: it adapts when a large allocation is freed.

    Allocating the memory from the system again takes a fifth of the time.
    """
    bytes(16 << 20)


class RangeChecker:
    """Reads lines and adds up the results.

    Args:
        settings: what to check for.
        first: whether the first line read is the first of its file.
        counter: counts tokens; by default, a new counter is opened.
    """

    def __init__(self, settings: Settings, *, first: bool = True, counter: TokenCounter | None = None) -> None:
        _keep_memory()
        self.settings = settings
        self.counter = counter or open_counter(settings.ratio, settings.tokenizer)
        self.totals = Totals()
        contents = settings.near or not isinstance(self.counter, RatioCounter)
        self._exact = ExactReader(images=settings.images, name=settings.name, first=first)
        self._reader: BlockReader = self._exact
        self._together = 1
        if settings.compiled and native.is_installed():
            self._reader = CompiledReader(images=settings.images, contents=contents)
            self._together = 1 if contents else _HELD
        self._held: list[Block] = []

    def read(
        self, stream: BinaryIO, remaining: int | None = None, *, progress: Callable[[int], None] | None = None
    ) -> Totals:
        """Read lines until the end, or the lines that begin in the `remaining` bytes; return the totals."""
        lines = self.totals.lines
        try:
            for block in blocks(stream, remaining):
                if block is None:
                    found = self._exact.read([(lines + 1, None, None, False)], 1, lines)
                else:
                    found = self._reader.scan(block, lines)
                self._held.append(found)
                lines += found.count
                if len(self._held) >= self._together or lines - self.totals.lines >= _LINES:
                    self._add_up()
                if progress is not None:
                    progress(len(block) if block is not None else MAX_LINE_BYTES)
        finally:
            self._add_up()
        return self.totals

    def _add_up(self) -> None:
        """Add up the held blocks, and the exact parser's results for their doubtful lines."""
        totals, parts, self._held = self.totals, self._held, []
        base, count = totals.lines, sum([part.count for part in parts])
        prompts, wholes = array("Q"), array("Q")
        for part in parts:
            prompts += part.prompts
            wholes += part.wholes
        if doubtful := [line for part in parts for line in part.doubtful]:
            others = self._exact.read(doubtful, count, base)
            for line in others.lines:
                place = line - base - 1
                prompts[place], wholes[place] = others.prompts[place], others.wholes[place]
            parts.append(others)
        totals.prompts.extend(prompts)
        totals.wholes.extend(wholes)
        if self.settings.near:
            nears = array("Q", bytes(8 * count))
            for part in parts:
                for line, turns in zip(part.lines, part.conversations(), strict=True):
                    nears[line - base - 1] = digests.normalised(turns)
            totals.nears.extend(nears)
        self._find(parts)
        for part in parts:
            self._account(part)
            totals.rows += part.rows
        totals.lines += count

    def _find(self, parts: list[Block]) -> None:
        """Count the findings in blocks, and keep the first of each code, in line order."""
        formats = [item for part in parts for item in part.formats.items()]
        for form, line in sorted(formats, key=itemgetter(1)):
            self.totals.formats.setdefault(form, line)
        findings = [finding for part in parts for finding in part.findings]
        findings += [finding for part in parts for finding in self._remarks(part)]
        for finding in sorted(findings, key=attrgetter("line")):
            self.totals.find(finding)

    def _remarks(self, part: Block) -> Iterator[Finding]:
        """Yield the findings of turns; once enough are kept, only count them."""
        counts = self.totals.counts
        full = set[int]()
        for number, count in part.remarked.items():
            code = texts.remark(number)[0]
            if counts[code] >= FINDINGS_KEPT:
                full.add(number)
                counts[code] += count
        if len(full) == len(part.remarked):
            return
        for line, role, number in part.remarks():
            if number not in full:
                code, what, fix = texts.remark(number)
                message, name = f"a {role} turn holds {what}", self.settings.name
                yield Finding(code=code, severity="warning", file=name, line=line, message=message, fix=fix)

    def _account(self, found: Block) -> None:
        """Add the good lines of a block to the numbers: separately with and without images."""
        limit, estimated = self.settings.limit, isinstance(self.counter, RatioCounter)
        if not found.lines:
            return
        if found.images is None and estimated:
            written, tally = found.written, self.totals.text_only
            if limit is None or round(max(written) * self.settings.ratio) <= limit:
                tally.examples += len(written)
                tally.kept += len(written)
                tally.turns.update(found.turns)
                self._name_first(tally, found.lines)
                tally.characters += sum(written)
                tally.sizes.update(zip(written, repeat(0)))
                return
        images = found.images or [0] * len(found.lines)
        columns = (found.lines, found.turns, found.written, found.answers(), images)
        conversations = [] if estimated else found.conversations()
        for with_images, tally in enumerate(self.totals.tallies):
            chosen = [(count > 0) == with_images for count in images]
            if any(chosen):
                lines, turns, written, answers, shown = (list(compress(column, chosen)) for column in columns)
                spoken = compress(conversations, chosen)
                tokens, trained = self.counter.measure_all(spoken, written, shown if found.images else None)
                self._tally(tally, lines, turns, written, answers, shown, tokens, trained)

    def _tally(
        self,
        tally: Tally,
        lines: list[int],
        turns: list[int],
        written: list[int],
        answers: list[int],
        images: list[int],
        tokens: list[int],
        trained: list[int] | None,
    ) -> None:
        """Add examples, and report those that are too long or train nothing (their only answer may be cut off)."""
        ratio, estimated = self.settings.ratio, isinstance(self.counter, RatioCounter)
        tally.examples += len(lines)
        tally.turns.update(turns)
        self._name_first(tally, lines)
        tally.sizes.update(zip(written, images, strict=True) if estimated else zip(tokens, repeat(0)))
        untrained = [line for line, learned in zip(lines, trained, strict=True) if not learned] if trained else []
        limit = max(tokens) if self.settings.limit is None else self.settings.limit
        keep = [length <= limit for length in tokens]
        if not all(keep):
            longest = [(line, length) for line, length in zip(lines, tokens, strict=True) if length > limit]
            tally.over_length += len(longest)
            tally.longest = sorted([*tally.longest, *longest])[:FINDINGS_KEPT]
            learned = trained or [round(count * ratio) for count in answers]
            untrained += [
                line
                for line, count, length, answer in zip(lines, turns, tokens, learned, strict=True)
                if length > limit and count in {2, 3} and length - answer >= limit
            ]
        if untrained:
            tally.untrained = sorted({*tally.untrained, *untrained})[:FINDINGS_KEPT]
        tally.kept += sum(keep)
        tally.characters += sum(compress(written, keep))
        tally.trained += sum(compress(trained or (), keep))
        tally.images += sum(compress(images, keep))

    def _name_first(self, tally: Tally, lines: list[int]) -> None:
        if len(tally.first_lines) < LINES_NAMED or lines[0] < tally.first_lines[-1]:
            # Sorted, because the doubtful lines of a block come after its other lines.
            tally.first_lines = sorted([*tally.first_lines, *lines[:LINES_NAMED]])[:LINES_NAMED]
