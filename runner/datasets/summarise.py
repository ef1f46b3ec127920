"""From a range of bytes of a file to a `Summary`: a pure function, run in this process or shared among several."""

from __future__ import annotations

import bisect
import dataclasses
import io
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import compress
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO

from runner.datasets import digests, native, texts
from runner.datasets.block import ANCHORS, EMAIL, SECRET, TOKEN, Block, BlockReader
from runner.datasets.column import Column
from runner.datasets.compiled import CompiledReader
from runner.datasets.examples import Example, Finding, TextPart
from runner.datasets.json_lines import MAX_LINE_BYTES, RawLine
from runner.datasets.parsing import parse_raw
from runner.datasets.prover import Prover
from runner.datasets.shapes import Reading
from runner.datasets.summary import FINDINGS_KEPT, LINES_NAMED, Summary, Tally
from runner.datasets.tokens import RatioCounter, TokenCounter, open_counter

BLOCK_BYTES = 256 * 1024
"""Small enough for the processor's second-level cache, large enough that the work per block does not count."""
_LENGTHS_KEPT = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a file is checked for; small, so that it can be sent to another process."""

    images: bool = True
    """Whether the base model takes images."""
    limit: int | None = None
    """Tokens of one example; None without a model."""
    ratio: float
    """Tokens per character, for the estimate."""
    tokenizer: Path | None = None
    """Folder of the tokenizer to count with."""
    name: str = ""
    """Of the file, for the findings."""
    near: bool = False
    """Look for examples that differ only in case, white space and punctuation too."""
    exact: bool = False
    """Read every line with the exact parser: slow, to compare with."""
    compiled: bool = True
    """Read with the compiled scanner where it is installed."""


def summarise(
    path: Path, start: int, end: int, settings: Settings, *, progress: Callable[[int], None] | None = None
) -> Summary:
    """Return what there is to say of the lines whose first byte is in a range.

    Args:
        path: plain JSONL file.
        start: offset of the first byte; in the middle of a line, that line belongs to the range before.
        end: offset behind the last byte.
        settings: what to check for.
        progress: called with the bytes done, block by block.
    """
    with io.BufferedReader(path.open("rb", buffering=0), BLOCK_BYTES) as stream:
        return summarise_range(stream, start, end, settings, progress=progress)


def summarise_range(
    stream: BinaryIO, start: int, end: int, settings: Settings, *, progress: Callable[[int], None] | None = None
) -> Summary:
    """Return the same of a buffered stream that can seek, wherever its bytes come from."""
    if start:
        stream.seek(start - 1)
        line = stream.readline(1 << 20)
        while line and not line.endswith(b"\n"):
            line = stream.readline(1 << 20)
    remaining = end - stream.tell() if start else end
    return Summariser(settings, first=not start).read(stream, remaining, progress=progress)


class Summariser:
    """Reads lines and adds them up.

    Args:
        settings: what to check for.
        first: whether the first line read is the first of its file.
        counter: counts tokens; opened here where it is not given.
    """

    def __init__(self, settings: Settings, *, first: bool = True, counter: TokenCounter | None = None) -> None:
        self.settings = settings
        self.counter = counter or open_counter(settings.ratio, settings.tokenizer)
        self.summary = Summary()
        contents = settings.near or not isinstance(self.counter, RatioCounter)
        self._reader = open_reader(images=settings.images, contents=contents, compiled=settings.compiled)
        # The number only says whether a byte order mark is in its place.
        self._first = 1 if first else 2
        self._written: Counter[int] = Counter()

    def read(
        self, stream: BinaryIO, remaining: int | None = None, *, progress: Callable[[int], None] | None = None
    ) -> Summary:
        """Read lines until the end, or as many as begin in the `remaining` bytes; return the summary."""
        try:
            for block in blocks(stream, remaining):
                if block is None:
                    self._only_exact(b"", too_long=True)
                elif self.settings.exact:
                    for line in block.removesuffix(b"\n").split(b"\n"):
                        self._only_exact(line.rstrip(b"\r\n"))
                else:
                    self._block(block)
                if progress is not None:
                    progress(len(block) if block is not None else MAX_LINE_BYTES)
        finally:
            self._finish()
        return self.summary

    def _only_exact(self, line: bytes, *, too_long: bool = False) -> None:
        self._skip(1)
        self._exact(self.summary.lines, line, too_long=too_long)

    def _block(self, block: bytes) -> None:
        if block.isspace():
            self._skip(block.count(b"\n") + (not block.endswith(b"\n")))
            return
        found, summary = self._reader.scan(block), self.summary
        summary.prompts.extend(found.prompts)
        summary.wholes.extend(found.wholes)
        if self.settings.near:
            nears = array("Q", bytes(8 * found.count))
            for line, turns in zip(found.index, found.conversations(), strict=True):
                nears[line] = digests.normalised(turns)
            summary.nears.extend(nears)
        self._in_order(found)
        self._account_all(found)
        summary.rows += len(found.index)
        summary.lines += found.count

    def _in_order(self, found: Block) -> None:
        """Find what there is to find in a block, line by line, where there may be something."""
        base, index = self.summary.lines, found.index
        events: list[tuple[int, int, Any]] = [(line, 2, data) for line, data in found.doubtful]
        events += [(index[anchored.place], 1, anchored) for anchored in found.anchored]
        events += [(line, 0, form) for form, line in found.formats.items() if form not in self.summary.formats]
        events.sort(key=itemgetter(0, 1))
        for line, kind, what in events:
            if kind == 0:
                self.summary.formats.setdefault(what, base + line + 1)
            elif kind == 1:
                self._contents(base + line + 1, what.texts, len(what.texts) % 2 == 1, what.kinds)
            else:
                self._exact(base + line + 1, what.rstrip(b"\r\n"))

    def _skip(self, lines: int) -> None:
        """Leave lines without a digest."""
        for column in self._columns():
            column.zeros(lines)
        self.summary.lines += lines

    def _columns(self) -> list[Column]:
        summary = self.summary
        return [summary.prompts, summary.wholes, *([summary.nears] if self.settings.near else [])]

    def _exact(self, line: int, data: bytes, *, too_long: bool = False) -> None:
        """Read a line, the how many-th says `line`, with the exact parser; its digests have a place already."""
        raw = RawLine(max(line, self._first), data, too_long)
        parsed = parse_raw(raw, file=self.settings.name, images=self.settings.images)
        if parsed is None:
            return
        self.summary.rows += 1
        for finding in parsed.findings:
            self.summary.find(dataclasses.replace(finding, line=line) if finding.line != line else finding)
        example = parsed.example
        if example is None:
            return
        self.summary.formats.setdefault(example.format, line)
        self._contents(line, [message.text for message in example.messages], example.messages[0].role == "system")
        reading = reading_of(example)
        self.summary.prompts[line - 1], self.summary.wholes[line - 1] = digests.digest(reading.turns, reading.system)
        if self.settings.near:
            self.summary.nears[line - 1] = digests.normalised(reading.turns)
        turns = reading.turns
        written = sum(map(len, reading.texts))
        self._account([line], [turns], [len(turns)], [written], [len(turns[-1])], [reading.images])

    def _contents(self, line: int, turns: list[str], system: bool, anchors: int = ANCHORS) -> None:
        """Look for what a text should not hold; `anchors` tells what there may be."""
        for index, text in enumerate(turns):
            role = "system" if system and not index else "assistant" if (index - system) % 2 else "user"
            if anchors & TOKEN and (token := texts.special_token(text)):
                self._warn(
                    "special-token",
                    line,
                    f"a {role} turn holds the control token {token!r} as text",
                    "the chat template adds its own; remove it",
                )
            found = [("secret", what) for what in texts.secrets(text)] if anchors & SECRET else []
            if anchors & EMAIL and texts.has_email(text):
                found.append(("personal-data", "an e-mail address"))
            for code, what in found:
                self._warn(code, line, f"a {role} turn holds {what}", "a tuned model can repeat it; remove it")

    def _warn(self, code: str, line: int, message: str, fix: str) -> None:
        name = self.settings.name
        if self.summary.counts[code] >= FINDINGS_KEPT:
            self.summary.counts[code] += 1  # only counted
            return
        self.summary.find(Finding(code=code, severity="warning", file=name, line=line, message=message, fix=fix))

    def _account_all(self, found: Block) -> None:
        """Add the good lines of a block to the numbers."""
        written = found.written
        if not written:
            return
        counter, limit, tally = self.counter, self.settings.limit, self.summary.text_only
        plain = found.images is None and isinstance(counter, RatioCounter)
        if plain and (limit is None or round(max(written) * self.settings.ratio) <= limit):
            tally.examples += len(written)
            tally.kept += len(written)
            tally.turns.update(found.turns)
            base = self.summary.lines + 1
            self._name_first(tally, [base + line for line in found.index[:LINES_NAMED]])
            tally.characters += sum(written)
            self._written.update(written)
            if len(self._written) > _LENGTHS_KEPT:
                self._finish()
            return
        base = self.summary.lines + 1
        lines = [base + line for line in found.index]
        conversations = [] if isinstance(counter, RatioCounter) else found.conversations()
        self._account(lines, conversations, found.turns, written, found.answers(), found.images)

    def _finish(self) -> None:
        """Turn lengths in characters into lengths in tokens: once for each length, not for each example."""
        tokens, ratio = self.summary.text_only.tokens, self.settings.ratio
        for written, count in self._written.items():
            tokens[round(written * ratio)] += count
        self._written.clear()

    def _account(
        self,
        lines: list[int],
        conversations: Sequence[Sequence[str]],
        turns: list[int],
        written: list[int],
        answers: list[int],
        images: list[int] | None,
    ) -> None:
        """Add examples to the numbers: those with images apart from those without."""
        if images is None:
            spoken = ((some, len(some) % 2 == 1) for some in conversations)
            tokens, trained = self.counter.measure_all(spoken, written)
            self._tally(self.summary.text_only, lines, turns, written, answers, tokens, trained)
            return
        for with_images, tally in enumerate(self.summary.tallies):
            chosen = [(count > 0) == with_images for count in images]
            some_lines, some_turns, some_written, some_answers, some_images = (
                list(compress(column, chosen)) for column in (lines, turns, written, answers, images)
            )
            spoken = ((some, len(some) % 2 == 1) for some in compress(conversations, chosen))
            tokens, trained = self.counter.measure_all(spoken, some_written, some_images)
            self._tally(tally, some_lines, some_turns, some_written, some_answers, tokens, trained, some_images)

    def _tally(
        self,
        tally: Tally,
        lines: list[int],
        turns: list[int],
        written: list[int],
        answers: list[int],
        tokens: list[int],
        trained: list[int] | None,
        images: list[int] | None = None,
    ) -> None:
        if not lines:
            return
        tally.examples += len(lines)
        tally.turns.update(turns)
        self._name_first(tally, lines)
        self._find_untrained(tally, lines, turns, answers, tokens, trained)
        limit = self.settings.limit
        if limit is not None and max(tokens) > limit:
            for line, length in zip(lines, tokens, strict=True):
                if length > limit:
                    tally.over_length += 1
                    bisect.insort(tally.longest, (line, length))
            del tally.longest[FINDINGS_KEPT:]
            keep = [place for place, length in enumerate(tokens) if length <= limit]
            written, tokens = [written[place] for place in keep], [tokens[place] for place in keep]
            trained = [trained[place] for place in keep] if trained is not None else None
            images = [images[place] for place in keep] if images is not None else None
        tally.kept += len(tokens)
        tally.characters += sum(written)
        tally.tokens.update(tokens)
        tally.trained += sum(trained or ())
        tally.images += sum(images or ())

    def _name_first(self, tally: Tally, lines: list[int]) -> None:
        if len(tally.first_lines) < LINES_NAMED or lines[0] < tally.first_lines[-1]:
            # Sorted, because the exact parser's lines of a block come before the others.
            tally.first_lines = sorted([*tally.first_lines, *lines[:LINES_NAMED]])[:LINES_NAMED]

    def _find_untrained(
        self,
        tally: Tally,
        lines: list[int],
        turns: list[int],
        answers: list[int],
        tokens: list[int],
        trained: list[int] | None,
    ) -> None:
        """Name examples that train nothing, and those whose only answer begins behind the limit."""
        found: list[int] = []
        if trained is not None and not all(trained):
            found = [line for line, learned in zip(lines, trained, strict=True) if not learned]
        limit = self.settings.limit
        if limit is not None and max(tokens) > limit:
            learned = trained if trained is not None else [round(count * self.settings.ratio) for count in answers]
            found += [
                line
                for line, count, length, answer in zip(lines, turns, tokens, learned, strict=True)
                if length > limit and count in {2, 3} and length - answer >= limit
            ]
        if found:
            tally.untrained = sorted({*tally.untrained, *found})[:FINDINGS_KEPT]


def open_reader(*, images: bool, contents: bool, compiled: bool) -> BlockReader:
    """Return the compiled scanner where it is wanted and there, else the one in Python.

    Args:
        images: whether the base model takes images.
        contents: whether the contents of turns are needed.
        compiled: whether it is wanted.
    """
    if compiled and native.is_installed():
        return CompiledReader(images=images, contents=contents)
    return Prover(images=images)


def reading_of(example: Example) -> Reading:
    """Return what the fast path would have made of an example."""
    parts = [part.text for message in example.messages for part in message.parts if isinstance(part, TextPart)]
    turns = [digests.content(message) for message in example.messages]
    return Reading(turns, parts, example.messages[0].role == "system", len(example.images))


def blocks(stream: BinaryIO, remaining: int | None = None) -> Iterator[bytes | None]:
    """Yield whole lines of a stream, about `BLOCK_BYTES` at a time, and None for a line that is too long.

    Args:
        stream: a buffered binary stream.
        remaining: stop behind the line that the byte at this distance is in.
    """
    while remaining is None or remaining > 0:
        block = stream.read(BLOCK_BYTES if remaining is None else min(BLOCK_BYTES, remaining))
        if not block:
            return
        size = len(block)
        too_long = False
        if not block.endswith(b"\n"):
            last = block.rfind(b"\n") + 1
            room = MAX_LINE_BYTES + 2 - (size - last)
            rest = stream.readline(room)
            size += len(rest)
            if len(rest) == room and not rest.endswith(b"\n"):
                too_long = True
                block = block[:last]
            else:
                block += rest
                too_long = len(block) - last > MAX_LINE_BYTES and len(block[last:].rstrip(b"\r\n")) > MAX_LINE_BYTES
                if too_long:
                    block = block[:last]
        if block:
            yield block
        if too_long:
            while not rest.endswith(b"\n") and (rest := stream.readline(BLOCK_BYTES)):
                size += len(rest)
            yield None
        if remaining is not None:
            remaining -= size
