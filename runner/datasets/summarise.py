"""From a range of bytes of a file to a `Summary`: a pure function, run in this process or shared among several."""

from __future__ import annotations

import bisect
import dataclasses
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from runner.datasets import digests, texts
from runner.datasets.digests import IMAGE, PART
from runner.datasets.examples import Example, Finding, TextPart
from runner.datasets.json_lines import MAX_LINE_BYTES, RawLine
from runner.datasets.parsing import parse_raw
from runner.datasets.prover import ANCHORS, EMAIL, SECRET, TOKEN, Prover
from runner.datasets.shapes import Reading
from runner.datasets.summary import FINDINGS_KEPT, LINES_NAMED, Summary, Tally
from runner.datasets.tokens import RatioCounter, TokenCounter, open_counter

BLOCK_BYTES = 512 * 1024
"""Small enough for the processor's second-level cache, large enough that the work per block does not count."""


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
        self._prover = Prover(images=settings.images)
        # The number only says whether a byte order mark is in its place.
        self._first = 1 if first else 2

    def read(
        self, stream: BinaryIO, remaining: int | None = None, *, progress: Callable[[int], None] | None = None
    ) -> Summary:
        """Read lines until the end, or as many as begin in the `remaining` bytes; return the summary."""
        for block in blocks(stream, remaining):
            if block is None:
                self._exact(RawLine(self._first + self.summary.lines, b"", too_long=True))
                self.summary.lines += 1
            elif self.settings.exact:
                for line in block.removesuffix(b"\n").split(b"\n"):
                    self._exact(RawLine(self._first + self.summary.lines, line.rstrip(b"\r\n")))
                    self.summary.lines += 1
            else:
                self._block(block)
            if progress is not None:
                progress(len(block) if block is not None else MAX_LINE_BYTES)
        return self.summary

    def _block(self, block: bytes) -> None:
        if not block.strip():
            self._skip_to(self.summary.lines + block.count(b"\n") + (not block.endswith(b"\n")))
            return
        form, good, doubtful, count = self._prover.prove(block)
        base = self.summary.lines
        known = form in self.summary.formats
        bulk = isinstance(self.counter, RatioCounter) and not self.settings.near
        digest, add_prompt, add_whole = digests.digest, self.summary.prompts.append, self.summary.wholes.append
        wholes = self.summary.wholes
        plain: list[tuple[int, Reading]] = []
        waiting = iter(doubtful)
        following = next(waiting, None)
        for index, reading, anchors in good:
            while following is not None and following[0] < index:
                self._exact(RawLine(self._first + base + following[0], _line(block, following)))
                following = next(waiting, None)
                known = form in self.summary.formats
            line = base + index + 1
            if len(wholes) < line - 1:
                self._skip_to(line - 1)
            if not known:
                self.summary.formats[form] = line
                known = True
            if anchors:
                self._contents(line, _turn_texts(reading.turns), reading.system, anchors)
            if bulk and not reading.images:
                plain.append((line, reading))
                prompt, whole = digest(reading.turns, reading.system)
                add_prompt(prompt)
                add_whole(whole)
            else:
                self._account(line, reading)
        while following is not None:
            self._exact(RawLine(self._first + base + following[0], _line(block, following)))
            following = next(waiting, None)
        if plain:
            self._account_plain(plain)
        self.summary.rows += len(good)
        self._skip_to(base + count)

    def _skip_to(self, lines: int) -> None:
        """Leave blank lines without a digest."""
        blank = bytes(8 * (lines - len(self.summary.wholes)))
        for digests_of_lines in (self.summary.prompts, self.summary.wholes):
            digests_of_lines.frombytes(blank)
        if self.settings.near:
            self.summary.nears.frombytes(blank)
        self.summary.lines = lines

    def _exact(self, raw: RawLine) -> None:
        """Read a line with the exact parser."""
        parsed = parse_raw(raw, file=self.settings.name, images=self.settings.images)
        line = raw.number - self._first + 1
        if len(self.summary.wholes) < line - 1:
            self._skip_to(line - 1)
        example = None
        if parsed is not None:
            self.summary.rows += 1
            for finding in parsed.findings:
                self.summary.find(dataclasses.replace(finding, line=line) if finding.line != line else finding)
            example = parsed.example
        if example is None:
            self.summary.prompts.append(0)
            self.summary.wholes.append(0)
            if self.settings.near:
                self.summary.nears.append(0)
            return
        self.summary.formats.setdefault(example.format, line)
        self._contents(line, [message.text for message in example.messages], example.messages[0].role == "system")
        self._account(line, reading_of(example))

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
        self.summary.find(Finding(code=code, severity="warning", file=name, line=line, message=message, fix=fix))

    def _digest(self, reading: Reading) -> None:
        prompt, whole = digests.digest(reading.turns, reading.system)
        self.summary.prompts.append(prompt)
        self.summary.wholes.append(whole)
        if self.settings.near:
            self.summary.nears.append(digests.normalised(reading.turns))

    def _account(self, line: int, reading: Reading) -> None:
        """Add an example to the numbers."""
        self._digest(reading)
        written = sum(map(len, reading.texts))
        tokens, trained = self.counter.measure(reading.turns, reading.system, written, reading.images)
        tally = self.summary.with_images if reading.images else self.summary.text_only
        if (self.counter.exact and not trained) or self._is_untrained(reading, tokens, trained):
            bisect.insort(tally.untrained, line)
            del tally.untrained[FINDINGS_KEPT:]
        tally.examples += 1
        tally.turns[len(reading.turns)] += 1
        # Sorted, because examples of one block may be added in two goes.
        if len(tally.first_lines) < LINES_NAMED or line < tally.first_lines[-1]:
            bisect.insort(tally.first_lines, line)
            del tally.first_lines[LINES_NAMED:]
        if self._is_too_long(line, tokens, tally):
            return
        tally.kept += 1
        tally.characters += written
        tally.images += reading.images
        tally.tokens[tokens] += 1
        tally.trained += trained

    def _account_plain(self, lines: list[tuple[int, Reading]]) -> None:
        """Add examples without images to the numbers, all of a block at once, where tokens are estimated."""
        ratio = self.settings.ratio
        written = [sum(map(len, reading.texts)) for _, reading in lines]
        tokens = [round(characters * ratio) for characters in written]
        tally = self.summary.text_only
        tally.examples += len(lines)
        tally.turns.update([len(reading.turns) for _, reading in lines])
        tally.first_lines = sorted([*tally.first_lines, *(line for line, _ in lines[:LINES_NAMED])])[:LINES_NAMED]
        limit = self.settings.limit
        if limit is not None and max(tokens) > limit:
            kept = []
            for (line, reading), characters, length in zip(lines, written, tokens, strict=True):
                if self._is_untrained(reading, length, 0):
                    bisect.insort(tally.untrained, line)
                    del tally.untrained[FINDINGS_KEPT:]
                if not self._is_too_long(line, length, tally):
                    kept.append((characters, length))
            written, tokens = [characters for characters, _ in kept], [length for _, length in kept]
        tally.kept += len(tokens)
        tally.characters += sum(written)
        tally.tokens.update(tokens)

    def _is_untrained(self, reading: Reading, tokens: int, trained: int) -> bool:
        """Tell whether the only answer of an example begins behind the limit."""
        if self.settings.limit is None or tokens <= self.settings.limit or len(reading.turns) - reading.system != 2:
            return False
        answer = trained if self.counter.exact else round(len(reading.turns[-1]) * self.settings.ratio)
        return tokens - answer >= self.settings.limit

    def _is_too_long(self, line: int, tokens: int, tally: Tally) -> bool:
        if self.settings.limit is None or tokens <= self.settings.limit:
            return False
        tally.over_length += 1
        bisect.insort(tally.longest, (line, tokens))
        del tally.longest[FINDINGS_KEPT:]
        return True


def reading_of(example: Example) -> Reading:
    """Return what the fast path would have made of an example."""
    parts = [part.text for message in example.messages for part in message.parts if isinstance(part, TextPart)]
    turns = [digests.content(message) for message in example.messages]
    return Reading(turns, parts, example.messages[0].role == "system", 0, 0, len(example.images))


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


def _line(block: bytes, place: tuple[int, int, int]) -> bytes:
    return block[place[1] : place[2]].rstrip(b"\r\n")


def _turn_texts(turns: list[str]) -> list[str]:
    """Return the text of each turn, without images and joints."""
    return [
        "".join(part for part in turn.split(PART) if not part.startswith(IMAGE))
        if IMAGE in turn or PART in turn
        else turn
        for turn in turns
    ]
