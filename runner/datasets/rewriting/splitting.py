"""Splits a dataset into training and validation so that no prompt is in both and the service accepts both files."""

from __future__ import annotations

import heapq
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import xxhash

from runner.datasets.checking.ranges import Settings, totals_of_stream
from runner.datasets.checking.totals import Totals
from runner.datasets.checks import MAX_VALIDATION_ROWS, MAX_VALIDATION_SHARE
from runner.datasets.reading.lines import raw_lines, seek_range
from runner.datasets.reading.sources import Source
from runner.datasets.records.recognising import plain_examples
from runner.datasets.rewriting.targets import open_target
from runner.errors import ConfigurationError, DatasetError
from runner.wording import counted


@dataclass(slots=True)
class Side:
    """One of the two files."""

    path: Path = Path()
    rows: int = 0
    size: int = 0
    """Bytes, before compression."""

    def to_json(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        return {"path": str(self.path), "rows": self.rows, "bytes": self.size}


@dataclass(frozen=True, slots=True)
class Split:
    """The two files and their contents."""

    training: Side
    validation: Side
    chosen: Chosen

    def to_json(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        return {
            "wantedRows": self.chosen.wanted,
            "obstacles": list(self.chosen.obstacles),
            "training": self.training.to_json(),
            "validation": self.validation.to_json(),
        }


def split_file(path: Source, training: Path, validation: Path, *, share: float = 0.1, seed: int = 0) -> Split:
    """Write the lines of a dataset into two files, in their order.

    Examples with the same prompt stay together, including repeats. The hold-out order of prompts depends only
    on them and the seed, so that adding examples to the dataset moves few others. If the service's limit on
    bytes would be exceeded, the longest ones stay in training.

    Args:
        path: JSONL file without errors, possibly compressed or in a bucket.
        training: path of the output; must not exist. Compressed if its name says so.
        validation: the same.
        share: share of the examples for validation, at most 20%: the service accepts 25% of training's bytes.
        seed: a different seed gives a different split.

    Raises:
        ConfigurationError: the share is out of bounds, an output file exists, or there are too few prompts.
        DatasetError: the dataset has errors.
    """
    require_possible(training, validation, share)
    with plain_examples(path) as copy:
        return _split(copy, training, validation, share, seed)


def require_possible(training: Path, validation: Path, share: float) -> None:
    """Raise ConfigurationError if the share is impossible, or an output file exists."""
    most = MAX_VALIDATION_SHARE / (1 + MAX_VALIDATION_SHARE)
    problems = [f"{target} already exists" for target in (training, validation) if os.path.lexists(target)]
    if not 0 < share <= most:
        problems.append(
            f"the share must be above 0 and at most {most:.2f}: validation may have 25% of training's bytes"
        )
    if problems:
        raise ConfigurationError("; ".join(problems), problems=problems)


def _split(path: Path, training: Path, validation: Path, share: float, seed: int) -> Split:
    size = path.stat().st_size
    with path.open("rb") as stream:
        part = Part.read(stream, 0, size, path.name)
        require_sound(part.totals, path.name)
        groups = part.groups(stream)
    ordered = sorted(groups.items(), key=lambda group: place_of(group[0], seed))
    chosen = choose(
        ((prompt, count, size) for prompt, (count, size) in ordered),
        prompts=len(groups),
        lines=sum(count for count, _ in groups.values()),
        octets=sum(size for _, size in groups.values()),
        share=share,
    )
    sides = Side(training), Side(validation)
    with open_target(training) as kept, open_target(validation) as held, path.open("rb") as stream:
        part.divide(stream, chosen.prompts, (sides[0], kept.write), (sides[1], held.write))
    return Split(*sides, chosen)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The prompts of the validation file."""

    prompts: set[int]
    """Digests of the prompts."""
    wanted: int
    """Number of rows that were requested."""
    obstacles: tuple[str, ...]
    """Why there are fewer rows."""


Target = tuple[Side, Callable[[bytes], object]]
"""Counts the lines of a side, and writes them."""


@dataclass(slots=True)
class Part:
    """The lines of a range of a dataset."""

    start: int
    end: int
    totals: Totals

    @staticmethod
    def read(stream: BinaryIO, start: int, end: int, name: str) -> Part:
        """Check the lines whose first byte is in a range; see `totals_of_stream`."""
        return Part(start, end, totals_of_stream(stream, start, end, Settings(ratio=0.25, name=name)))

    def lines(self, stream: BinaryIO) -> Iterator[bytes]:
        """Yield each line with its line end, b"" for a blank one."""
        seek_range(stream, self.start, self.end)
        for number, raw in enumerate(islice(raw_lines(stream), self.totals.lines)):
            data = raw.data if number or self.start else raw.data.removeprefix(b"\xef\xbb\xbf")
            yield data + b"\n" if data.strip() else b""

    def groups(self, stream: BinaryIO) -> dict[int, list[int]]:
        """Return the number of lines of each prompt, and their bytes."""
        found: dict[int, list[int]] = defaultdict(lambda: [0, 0])
        for line, prompt in zip(self.lines(stream), self.totals.prompts, strict=True):
            if line:
                group = found[prompt]
                group[0] += 1
                group[1] += len(line)
        return found

    def divide(self, stream: BinaryIO, held_out: set[int], kept: Target, held: Target) -> None:
        """Write each line to `held` if its prompt is held out, else to `kept`, and count it."""
        for line, prompt in zip(self.lines(stream), self.totals.prompts, strict=True):
            if line:
                side, write = held if prompt in held_out else kept
                write(line)
                side.rows += 1
                side.size += len(line)


def require_sound(totals: Totals, name: str) -> None:
    """Raise DatasetError for a dataset with errors."""
    if totals.error_count:
        findings = [finding.to_json() for finding in totals.findings if finding.severity == "error"]
        message = f"{counted(totals.error_count, 'error')} in {name}: what is broken cannot be split"
        raise DatasetError(message, findings=findings, hint="run `runner data fix` first")


def place_of(prompt: int, seed: int) -> int:
    """Return a prompt's place in the hold-out order: 64 bits that depend only on the prompt and the seed."""
    return xxhash.xxh3_64_intdigest(prompt.to_bytes(8, "little"), seed)


def choose(groups: Iterable[tuple[int, int, int]], *, prompts: int, lines: int, octets: int, share: float) -> Chosen:
    """Return the prompts of validation.

    Args:
        groups: digest of the prompt, lines and bytes, in the order of `place_of`; read only as far as needed.
        prompts: number of groups.
        lines: number of lines of all groups.
        octets: number of bytes of all groups.
        share: share of the lines.

    Raises:
        ConfigurationError: nothing can be held out.
    """
    if prompts < 2:
        raise ConfigurationError("there are fewer than two different prompts: nothing can be held out")
    wanted = max(1, round(share * lines))
    room = min(wanted, MAX_VALIDATION_ROWS)
    chosen: list[tuple[float, int, int, int]] = []
    """A heap: the longest lines first."""
    rows = held = 0
    together = heavy = False
    for prompt, count, size in groups:
        if rows + count > room:
            together = True
            continue
        heapq.heappush(chosen, (-size / count, prompt, count, size))
        rows, held = rows + count, held + size
        while held > MAX_VALIDATION_SHARE * (octets - held):
            # Without the longest lines, most others fit: this way, the limit of bytes holds the most rows.
            _, _, less, lighter = heapq.heappop(chosen)
            rows, held = rows - less, held - lighter
            heavy = True
        if rows == room:
            break
    obstacles = (
        (f"the service takes at most {MAX_VALIDATION_ROWS} rows", room < wanted),
        (f"the service takes at most {MAX_VALIDATION_SHARE:.0%} of the training file's bytes", heavy and rows < room),
        ("examples with the same prompt stay together", together and rows < room),
    )
    reasons = tuple(reason for reason, holds in obstacles if holds)
    if not chosen:
        message = f"nothing can be held out for a share of {share:.0%}: {', and '.join(reasons)}"
        raise ConfigurationError(message, hint="raise --share or add examples")
    return Chosen(prompts={item[1] for item in chosen}, wanted=wanted, obstacles=reasons)
