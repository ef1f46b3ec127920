"""A check in a pipeline, with the same totals and repeats as on one machine.

Totals of adjacent ranges can be added up, in any grouping, to those of the whole file. Repeated lines are found in
buckets: lines whose digests could be equal meet in one bucket, regardless of which worker read them.
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from runner.datasets.checking.columns import Column
from runner.datasets.checking.ranges import Settings, totals_of_stream
from runner.datasets.checking.repeats import Repeated, Repeats, compare
from runner.datasets.checking.totals import FINDINGS_KEPT, Totals
from runner.datasets.distributed import pipelines
from runner.datasets.distributed.pipelines import Beam, Range, shared, size_of
from runner.datasets.distributed.transport import add_up, decode, encode, read, read_totals, write
from runner.datasets.reading.sources import Source
from runner.errors import ConfigurationError, Problem

_LINES = 36
"""Number of bits for a line's number in its range; the higher bits are the range's number."""
_BUCKET_BYTES = 2 << 30
"""Bytes of data for each bucket: some millions of lines, which fit into a worker's memory."""
Pack = tuple[int, bytes]
"""Number of a range, and three numbers for each of its lines in a bucket: place, digest and digest of the whole."""


@dataclass(slots=True)
class _Read:
    """The results for a source."""

    source: Source
    ranges: list[Range]
    lines: list[int]
    """Number of lines of each range."""
    repeats: Repeats

    def line(self, place: int) -> int:
        """Return the line number in the file, from 1, for a place: a range and a line in it."""
        index = place >> _LINES
        return sum(self.lines[:index]) + (place & ((1 << _LINES) - 1))


@dataclass(slots=True)
class BeamEngine:
    """Reads the files of `check_files`; see `runner.datasets.checking.ranges.Engine`.

    Args:
        beam: where pipelines run; its context must be open.
    """

    beam: Beam
    _known: list[_Read] = field(default_factory=list)

    def totals(self, source: Source, settings: Settings) -> Totals:
        """Return the totals of a source. Raises ConfigurationError, RunnerError."""
        if not self.beam.is_local and settings.tokenizer is not None:
            message = f"the tokenizer is a folder of this machine, which the workers of {self.beam.runner} cannot read"
            raise ConfigurationError(Problem(message, "tokenizer"), hint="leave it out: tokens are estimated")
        ranges = self.beam.ranges(source, f"check-{len(self._known)}")
        place = ranges[0].place
        with self.beam.pipeline("check", source) as pipeline:
            _check(pipeline, ranges, encode(settings), buckets_of(source), near=settings.near)
        lines = dict(read(f"{place}/lines", list[tuple[int, int]]))
        known = _Read(source, ranges, [lines[one.index] for one in ranges], Repeats())
        same, conflicting = read(f"{place}/prompts", list[Repeated])
        near = read(f"{place}/nears", list[Repeated])[1] if settings.near else Repeated()
        known.repeats = Repeats(*(_numbered(known, known, kind) for kind in (same, near, conflicting)))
        self._known.append(known)
        return read_totals(f"{place}/totals")

    def repeats(self) -> Repeats:
        """Return which lines repeat other lines of the source that `totals` read last."""
        return self._known[-1].repeats

    def leakage(self) -> Repeated:
        """Return which lines of the source that was read last repeat lines of the source that was read first."""
        mine, theirs = self._known[-1], self._known[0]
        buckets = max(buckets_of(mine.source), buckets_of(theirs.source))
        items = [(one.file("wholes"), one.index, known is mine) for known in (theirs, mine) for one in known.ranges]
        place = mine.ranges[0].place
        with self.beam.pipeline("compare", mine.source) as pipeline:
            _compare(pipeline, items, buckets, place)
        return _numbered(mine, theirs, read(f"{place}/leaks", list[Repeated])[0])


def _check(pipeline: Any, ranges: list[Range], settings: bytes, buckets: int, *, near: bool) -> None:
    """Add the steps of a check: they replace the ranges by `totals`, `lines` and the repeats."""
    import apache_beam as beam

    place = ranges[0].place
    kinds = ("lines", "prompts", "nears") if near else ("lines", "prompts")
    parts = shared(pipeline, ranges) | "read" >> beam.FlatMap(_part, settings, buckets).with_outputs(
        *kinds, main="totals"
    )
    _ = parts.totals | "add up" >> beam.CombineGlobally(add_up) | "write totals" >> beam.Map(write, f"{place}/totals")
    _ = parts.lines | "all lines" >> beam.combiners.ToList() | "write lines" >> beam.Map(write, f"{place}/lines")
    for kind in kinds[1:]:
        _ = (
            parts[kind]
            | f"meet {kind}" >> beam.GroupByKey()
            | f"compare {kind}" >> beam.MapTuple(_repeats_of)
            | f"first {kind}" >> beam.CombineGlobally(_first)
            | f"write {kind}" >> beam.Map(write, f"{place}/{kind}")
        )


def _compare(pipeline: Any, items: list[tuple[str, int, bool]], buckets: int, place: str) -> None:
    """Add the steps that compare the digests of two sources."""
    import apache_beam as beam

    _ = (
        shared(pipeline, items)
        | "read" >> beam.FlatMap(_wholes, buckets)
        | "meet" >> beam.GroupByKey()
        | "compare" >> beam.MapTuple(_leaks_of)
        | "first" >> beam.CombineGlobally(_first)
        | "write" >> beam.Map(write, f"{place}/leaks")
    )


def _part(one: Range, settings: bytes, buckets: int) -> Iterator[Any]:
    """Yield the results for a range, on the worker that runs this."""
    from apache_beam.pvalue import TaggedOutput

    with pipelines.opened(one.address) as stream:
        totals = totals_of_stream(stream, one.start, one.end, decode(settings, Settings))
    pipelines.write(one.file("wholes"), totals.wholes.tobytes())
    yield TaggedOutput("lines", (one.index, totals.lines))
    for kind, digests in (("prompts", totals.prompts), ("nears", totals.nears)):
        for bucket, pack in _packs(one.index, digests, totals.wholes, buckets):
            yield TaggedOutput(kind, (bucket, (one.index, pack)))
    totals.prompts, totals.wholes, totals.nears = Column(), Column(), Column()
    yield [(one.index, one.index, encode(totals))]


def _wholes(item: tuple[str, int, bool], buckets: int) -> Iterator[tuple[int, tuple[int, bytes, bool]]]:
    address, index, mine = item
    digests = array("Q", pipelines.read(address))
    for bucket, pack in _packs(index, digests, digests, buckets):
        yield bucket, (index, pack, mine)


def _packs(index: int, digests: Iterable[int], wholes: Iterable[int], buckets: int) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of a range by bucket: for each, the place, the digest and the digest of the whole."""
    found: dict[int, array[int]] = {}
    base = index << _LINES
    for line, (digest, whole) in enumerate(zip(digests, wholes, strict=False), 1):
        if digest:
            bucket = (digest * buckets) >> 64
            pack = found.get(bucket)
            if pack is None:
                pack = found[bucket] = array("Q")
            pack.extend((base | line, digest, whole))
    for bucket, pack in found.items():
        yield bucket, pack.tobytes()


def _joined(packs: Iterable[tuple[int, bytes]]) -> array[int]:
    """Return the numbers in packs in the order of their ranges, and therefore of their lines."""
    joined = array("Q")
    for _, data in sorted(packs):
        joined.frombytes(data)
    return joined


def _repeats_of(bucket: int, packs: Iterable[Pack]) -> list[Repeated]:
    """Return a bucket's repeated examples and other equal digests. Equal wholes are always in the same bucket."""
    lines = _joined(packs)
    places = lines[::3]
    same = compare(zip(places, lines[2::3], strict=True))
    again = {place for place, _ in same}
    other = (pair for pair in compare(zip(places, lines[1::3], strict=True)) if pair[0] not in again)
    return [Repeated.of(same), Repeated.of(other)]


def _leaks_of(bucket: int, packs: Iterable[tuple[int, bytes, bool]]) -> list[Repeated]:
    given = list(packs)
    mine = _joined((index, data) for index, data, own in given if own)
    theirs = _joined((index, data) for index, data, own in given if not own)
    known = zip(theirs[::3], theirs[1::3], strict=True)
    return [Repeated.of(compare(zip(mine[::3], mine[1::3], strict=True), known)), Repeated()]


def _first(groups: Iterable[list[Repeated]]) -> list[Repeated]:
    """Return the repeats of each kind in all buckets: their number, and the first of them."""
    kinds = list(zip(*groups, strict=True)) or [(), ()]
    return [
        Repeated(
            heapq.nsmallest(FINDINGS_KEPT, chain.from_iterable(found.pairs for found in kind)),
            sum(found.count for found in kind),
        )
        for kind in kinds
    ]


def _numbered(mine: _Read, theirs: _Read, found: Repeated) -> Repeated:
    """Return repeats with line numbers instead of places."""
    return Repeated([(mine.line(line), theirs.line(first)) for line, first in found.pairs], found.count)


def buckets_of(source: Source) -> int:
    """Return the number of buckets for the lines of a source, with some millions in each."""
    return min(4096, 8 + size_of(source) // _BUCKET_BYTES)
