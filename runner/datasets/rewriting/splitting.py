"""Split a dataset into training and validation so that nothing leaks and the service takes both."""

from __future__ import annotations

import heapq
import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash

from runner.datasets.checking.ranges import RangeChecker, Settings
from runner.datasets.checks import MAX_VALIDATION_ROWS, MAX_VALIDATION_SHARE
from runner.datasets.reading.lines import RawLine, raw_lines
from runner.datasets.reading.sources import Source
from runner.datasets.records.recognising import plain_examples
from runner.datasets.rewriting.targets import open_target
from runner.errors import ConfigurationError, DatasetError
from runner.wording import counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """The two files and what is in them."""

    training: Path
    validation: Path
    training_rows: int
    validation_rows: int
    training_bytes: int
    validation_bytes: int
    wanted_rows: int
    """Number of validation examples that the share asks for."""
    obstacles: tuple[str, ...] = ()
    """Why validation has fewer rows than wanted; empty where it has them."""

    def to_json(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        return {
            "wantedRows": self.wanted_rows,
            "obstacles": list(self.obstacles),
            "training": {"path": str(self.training), "rows": self.training_rows, "bytes": self.training_bytes},
            "validation": {"path": str(self.validation), "rows": self.validation_rows, "bytes": self.validation_bytes},
        }


def split_file(path: Source, training: Path, validation: Path, *, share: float = 0.1, seed: int = 0) -> Split:
    """Write the lines of a dataset into two files, in their order.

    Examples with the same prompt stay together, repeats included. Prompts go into validation in an order that depends
    on them and the seed alone, so that adding examples to the dataset moves few others. Where the service's limit on
    bytes is in the way, the longest ones stay in training.

    Args:
        path: JSONL file without errors, perhaps compressed or in a bucket.
        training: written; must not exist. Compressed if its name says so.
        validation: the same.
        share: of the examples that goes into validation, at most 20 %: the service takes 25 % of training's bytes.
        seed: another seed, another split.

    Raises:
        ConfigurationError: the share is out of bounds, a file is there already, or there are too few prompts.
        DatasetError: the dataset has errors.
    """
    most = MAX_VALIDATION_SHARE / (1 + MAX_VALIDATION_SHARE)
    problems = [f"{target} already exists" for target in (training, validation) if os.path.lexists(target)]
    if not 0 < share <= most:
        problems.append(
            f"the share must be above 0 and at most {most:.2f}: validation may have 25 % of training's bytes"
        )
    if problems:
        raise ConfigurationError("; ".join(problems), problems=problems)
    with plain_examples(path) as copy:
        return _split(copy, training, validation, share, seed)


def _split(path: Path, training: Path, validation: Path, share: float, seed: int) -> Split:
    with path.open("rb") as stream:
        totals = RangeChecker(Settings(ratio=0.25, name=path.name)).read(stream)
    if totals.errors:
        findings = [finding.to_json() for finding in totals.findings if finding.severity == "error"]
        message = f"{counted(totals.errors, 'error')} in {path.name}: what is broken cannot be split"
        raise DatasetError(message, findings=findings, hint="`runner data fix` first")
    held_out, wanted, obstacles = _choose(path, list(totals.prompts), share, seed)
    counts = {True: [0, 0], False: [0, 0]}
    with open_target(training) as kept, open_target(validation) as held:
        for raw, line in _lines(path):
            out = totals.prompts[raw.number - 1] in held_out
            (held if out else kept).write(line)
            counts[out][0] += 1
            counts[out][1] += len(line)
    return Split(
        training=training,
        validation=validation,
        training_rows=counts[False][0],
        training_bytes=counts[False][1],
        validation_rows=counts[True][0],
        validation_bytes=counts[True][1],
        wanted_rows=wanted,
        obstacles=obstacles,
    )


def _choose(path: Path, prompts: list[int], share: float, seed: int) -> tuple[set[int], int, tuple[str, ...]]:
    """Return the prompts of validation, how many rows they should have, and why they have fewer."""
    groups: dict[int, list[int]] = defaultdict(lambda: [0, 0])
    lines = total = 0
    for raw, line in _lines(path):
        group = groups[prompts[raw.number - 1]]
        group[0] += 1
        group[1] += len(line)
        lines += 1
        total += len(line)
    if len(groups) < 2:
        raise ConfigurationError("there are fewer than two different prompts: nothing can be held out")
    wanted = max(1, round(share * lines))
    room = min(wanted, MAX_VALIDATION_ROWS)
    chosen: list[tuple[float, int]] = []
    """A heap: the longest lines first."""
    rows = octets = 0
    together = heavy = False
    for prompt in sorted(groups, key=lambda digest: xxhash.xxh3_64_intdigest(digest.to_bytes(8, "little"), seed)):
        count, size = groups[prompt]
        if rows + count > room:
            together = True
            continue
        heapq.heappush(chosen, (-size / count, prompt))
        rows, octets = rows + count, octets + size
        while octets > MAX_VALIDATION_SHARE * (total - octets):
            # Without the longest lines, most others fit: this is how the most rows get into a limit of bytes.
            count, size = groups[heapq.heappop(chosen)[1]]
            rows, octets = rows - count, octets - size
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
    return {prompt for _, prompt in chosen}, wanted, reasons


def _lines(path: Path) -> Iterator[tuple[RawLine, bytes]]:
    with path.open("rb") as stream:
        for raw in raw_lines(stream):
            data = raw.data.removeprefix(b"\xef\xbb\xbf") if raw.number == 1 else raw.data
            if data.strip():
                yield raw, data + b"\n"
