"""Finds repeated lines by their digests, with bounded memory.

Up to `IN_MEMORY` lines are compared in one table. More lines are distributed to files by their first bits and compared
one file at a time, so that 100 million lines need little more memory than a million.
"""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from runner.datasets.checking.columns import Column
from runner.datasets.checking.totals import FINDINGS_KEPT, Totals

IN_MEMORY = 1 << 17
"""Maximum number of lines in one table; such a table takes about 15 MB."""
_BUCKETS = 256
_BUFFERED = 1 << 17


@dataclass(slots=True)
class Repeated:
    """Lines that repeat other lines."""

    pairs: list[tuple[int, int]] = field(default_factory=list)
    """(line, first line with the same content), in order; the first thousand."""
    count: int = 0
    """Number of all repeats."""

    @staticmethod
    def of(pairs: Iterable[tuple[int, int]]) -> Repeated:
        """Return the repeats for pairs, given in line order."""
        found = Repeated()
        for pair in pairs:
            found.count += 1
            if found.count <= FINDINGS_KEPT:
                found.pairs.append(pair)
        return found


@dataclass(slots=True)
class Repeats:
    """Repeats in one file. A line that repeats the same example counts only as that kind of repeat."""

    same: Repeated = field(default_factory=Repeated)
    """Examples that occurred before."""
    near: Repeated = field(default_factory=Repeated)
    """Examples that differ from an earlier one only in case, white space or punctuation."""
    conflicting: Repeated = field(default_factory=Repeated)
    """Examples with an earlier prompt and another answer."""


def repeats_of(totals: Totals) -> Repeats:
    """Return the repeats in a file, from the digests of its lines."""
    same = repeats(totals.wholes)
    again = {line for line, _ in same}

    def others(digests: Column) -> Repeated:
        return Repeated.of(pair for pair in repeats(digests) if pair[0] not in again)

    return Repeats(Repeated.of(same), others(totals.nears), others(totals.prompts))


def repeats(digests: Column, known: Column | None = None) -> list[tuple[int, int]]:
    """Return (line, first line) for every digest that occurred before; lines count from 1.

    Args:
        digests: one per line; 0 means no digest.
        known: compare with these lines instead of with each other, to find leakage.
    """
    total = len(digests) + (len(known) if known is not None else 0)
    if total <= IN_MEMORY:
        return compare(enumerate(digests, 1), enumerate(known, 1) if known is not None else None)
    found: list[tuple[int, int]] = []
    with tempfile.TemporaryDirectory(prefix="runner-digests-") as folder:
        mine = _spread(digests, Path(folder, "mine"))
        others = _spread(known, Path(folder, "known")) if known is not None else None
        for index, path in enumerate(mine):
            found += compare(_read(path), _read(others[index]) if others is not None else None)
    found.sort()
    return found


def compare(
    digests: Iterable[tuple[int, int]], known: Iterable[tuple[int, int]] | None = None
) -> list[tuple[int, int]]:
    """Return (line, first line) for each (line, digest) whose digest occurred before, or is in `known`; in order."""
    first: dict[int, int] = {}
    found: list[tuple[int, int]] = []
    if known is not None:
        for line, digest in known:
            if digest:
                first.setdefault(digest, line)
        return [(line, first[digest]) for line, digest in digests if digest in first]
    for line, digest in digests:
        if digest and (before := first.setdefault(digest, line)) != line:
            found.append((line, before))
    return found


def _spread(digests: Column, folder: Path) -> list[Path]:
    folder.mkdir()
    paths = [folder / f"{index:02x}" for index in range(_BUCKETS)]
    buckets: list[array[int]] = [array("Q") for _ in range(_BUCKETS)]

    def write() -> None:
        for path, bucket in zip(paths, buckets, strict=True):
            if bucket:
                with path.open("ab") as stream:
                    bucket.tofile(stream)
                del bucket[:]

    for line, digest in enumerate(digests, 1):
        if digest:
            buckets[digest >> 56].extend((line, digest))
        if not line % _BUFFERED:
            write()
    write()
    return paths


def _read(path: Path) -> Iterator[tuple[int, int]]:
    if path.is_file():
        pairs: array[int] = array("Q")
        pairs.frombytes(path.read_bytes())
        yield from zip(pairs[::2], pairs[1::2], strict=True)
