"""Split a dataset into training and validation so that nothing leaks and the service takes both."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash

from runner.datasets.checks import MAX_VALIDATION_ROWS, MAX_VALIDATION_SHARE
from runner.datasets.json_lines import RawLine, raw_lines
from runner.datasets.sources import Source, plain_copy
from runner.datasets.summarise import Settings, Summariser
from runner.datasets.targets import open_target
from runner.errors import ConfigurationError, DatasetError


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """The two files and what is in them."""

    training: Path
    validation: Path
    training_rows: int
    validation_rows: int
    training_bytes: int
    validation_bytes: int

    def to_json(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        return {
            "training": {"path": str(self.training), "rows": self.training_rows, "bytes": self.training_bytes},
            "validation": {"path": str(self.validation), "rows": self.validation_rows, "bytes": self.validation_bytes},
        }


def split_file(path: Source, training: Path, validation: Path, *, share: float = 0.1, seed: int = 0) -> Split:
    """Write the lines of a dataset into two files, in their order.

    Examples with the same prompt stay together, repeats included. Which go into validation depends on the prompts and
    the seed alone: adding examples to the dataset moves few others.

    Args:
        path: JSONL file without errors, perhaps compressed or in a bucket.
        training: written; must not exist. Compressed if its name says so.
        validation: the same.
        share: of the bytes that goes into validation, at most the service's 20 % of the whole (25 % of the rest).
        seed: another seed, another split.

    Raises:
        ConfigurationError: the share is out of bounds, a file is there already, or there are too few prompts.
        DatasetError: the dataset has errors.
    """
    most = MAX_VALIDATION_SHARE / (1 + MAX_VALIDATION_SHARE)
    problems = [f"{target} is there already" for target in (training, validation) if os.path.lexists(target)]
    if not 0 < share <= most:
        problems.append(
            f"the share must be above 0 and at most {most:.2f}: validation may have 25 % of training's bytes"
        )
    if problems:
        raise ConfigurationError("; ".join(problems), problems=problems)
    with plain_copy(path) as copy:
        return _split(copy, training, validation, share, seed)


def _split(path: Path, training: Path, validation: Path, share: float, seed: int) -> Split:
    with path.open("rb") as stream:
        summary = Summariser(Settings(ratio=0.25, name=path.name)).read(stream)
    if summary.errors:
        findings = [finding.to_json() for finding in summary.findings if finding.severity == "error"]
        message = f"{summary.errors} errors in {path.name}: what is broken cannot be split"
        raise DatasetError(message, findings=findings, hint="`runner data fix` first")
    held_out = _choose(path, list(summary.prompts), share, seed)
    counts = {True: [0, 0], False: [0, 0]}
    with open_target(training) as kept, open_target(validation) as held:
        for raw, line in _lines(path):
            out = summary.prompts[raw.number - 1] in held_out
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
    )


def _choose(path: Path, prompts: list[int], share: float, seed: int) -> set[int]:
    sizes: dict[int, list[int]] = defaultdict(lambda: [0, 0])
    total = 0
    for raw, line in _lines(path):
        group = sizes[prompts[raw.number - 1]]
        group[0] += 1
        group[1] += len(line)
        total += len(line)
    if len(sizes) < 2:
        raise ConfigurationError("there are fewer than two different prompts: nothing can be held out")
    chosen: set[int] = set()
    rows = octets = 0
    for prompt in sorted(sizes, key=lambda digest: xxhash.xxh3_64_intdigest(digest.to_bytes(8, "little"), seed)):
        count, size = sizes[prompt]
        fits = octets + size <= share * total and rows + count <= MAX_VALIDATION_ROWS
        if fits:
            chosen.add(prompt)
            rows += count
            octets += size
        elif octets > 0.9 * share * total:
            break  # filling the rest with ever smaller examples would make validation unlike training
    if not chosen:
        raise ConfigurationError(f"no prompt is small enough for {share:.0%} of the bytes", hint="raise --share")
    return chosen


def _lines(path: Path) -> Iterator[tuple[RawLine, bytes]]:
    with path.open("rb") as stream:
        for raw in raw_lines(stream):
            data = raw.data.removeprefix(b"\xef\xbb\xbf") if raw.number == 1 else raw.data
            if data.strip():
                yield raw, data + b"\n"
