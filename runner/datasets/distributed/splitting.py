"""A split in pipelines, with the same two files as on one machine.

The first pipeline counts the lines of each prompt, in buckets that are in the hold-out order of prompts; the second
writes each line to its side.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from runner.datasets.checking.columns import Column
from runner.datasets.distributed import pipelines
from runner.datasets.distributed.checking import buckets_of
from runner.datasets.distributed.pipelines import Beam, Range, shared
from runner.datasets.distributed.transport import add_up, encode, read, read_totals, write
from runner.datasets.reading.sources import Source, name_of
from runner.datasets.records.recognising import open_examples
from runner.datasets.rewriting.splitting import Part, Side, Split, choose, place_of, require_possible, require_sound
from runner.datasets.rewriting.targets import open_target


def split_file(
    beam: Beam, path: Source, training: Path, validation: Path, *, share: float = 0.1, seed: int = 0
) -> Split:
    """Write the lines of a dataset into two files; see `rewriting.splitting.split_file`.

    Raises:
        ConfigurationError: the share is out of bounds, an output file exists, there are too few prompts, or workers
        cannot read the dataset at any place.
        DatasetError: the dataset has errors.
        RunnerError: a pipeline failed.
    """
    require_possible(training, validation, share)
    with open_examples(path):
        ranges = beam.ranges(path, "split")
    place = ranges[0].place
    with beam.pipeline("count", path) as pipeline:
        _count(pipeline, ranges, name_of(path), buckets_of(path), seed)
    require_sound(read_totals(f"{place}/totals"), name_of(path))
    counted = read(f"{place}/counted", list[tuple[int, int, int, int]])
    chosen = choose(
        _groups(place, sorted(bucket for bucket, *_ in counted)),
        prompts=sum(item[1] for item in counted),
        lines=sum(item[2] for item in counted),
        octets=sum(item[3] for item in counted),
        share=share,
    )
    with beam.pipeline("split", path) as pipeline:
        _divide(pipeline, ranges, frozenset(chosen.prompts))
    sides = zip(*read(f"{place}/divided", list[list[Side]]), strict=True)
    with open_target(training) as kept, open_target(validation) as held:
        for one in ranges:
            pipelines.copy_into(one.file("kept"), kept.write)
            pipelines.copy_into(one.file("held"), held.write)
    first, second = ((sum(part.rows for part in side), sum(part.size for part in side)) for side in sides)
    return Split(Side(training, *first), Side(validation, *second), chosen)


def _groups(place: str, buckets: list[int]) -> Iterator[tuple[int, int, int]]:
    """Yield prompts with their lines and bytes, in hold-out order; read only as far as needed."""
    for bucket in buckets:
        numbers = array("Q", pipelines.read(f"{place}/groups-{bucket:04}"))
        yield from zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True)


def _count(pipeline: Any, ranges: list[Range], name: str, buckets: int, seed: int) -> None:
    import apache_beam as beam

    place = ranges[0].place
    parts = shared(pipeline, ranges) | "count" >> beam.FlatMap(_part, name, buckets, seed).with_outputs(
        "groups", main="totals"
    )
    _ = parts.totals | "add up" >> beam.CombineGlobally(add_up) | "write totals" >> beam.Map(write, f"{place}/totals")
    _ = (
        parts.groups
        | "meet" >> beam.GroupByKey()
        | "sort" >> beam.Map(_bucket, place, seed)
        | "all" >> beam.combiners.ToList()
        | "write counts" >> beam.Map(write, f"{place}/counted")
    )


def _divide(pipeline: Any, ranges: list[Range], held_out: frozenset[int]) -> None:
    import apache_beam as beam

    _ = (
        shared(pipeline, ranges)
        | "divide" >> beam.Map(_sides, held_out)
        | "all" >> beam.combiners.ToList()
        | "write" >> beam.Map(write, f"{ranges[0].place}/divided")
    )


def _part(one: Range, name: str, buckets: int, seed: int) -> Iterator[Any]:
    """Yield the errors of a range, and its prompts by bucket."""
    from apache_beam.pvalue import TaggedOutput

    with pipelines.opened(one.address) as stream:
        part = Part.read(stream, one.start, one.end, name)
        groups = {} if part.totals.error_count else part.groups(stream)
    found: dict[int, array[int]] = {}
    for prompt, (count, octets) in groups.items():
        found.setdefault((place_of(prompt, seed) * buckets) >> 64, array("Q")).extend((prompt, count, octets))
    for bucket, numbers in found.items():
        yield TaggedOutput("groups", (bucket, numbers.tobytes()))
    totals = part.totals
    totals.prompts, totals.wholes = Column(), Column()
    yield [(one.index, one.index, encode(totals))]


def _bucket(item: tuple[int, Iterable[bytes]], place: str, seed: int) -> tuple[int, int, int, int]:
    """Write the prompts of a bucket in order; return their number, with the total of lines and bytes."""
    bucket, packs = item
    groups: dict[int, list[int]] = {}
    for data in packs:
        numbers = array("Q", data)
        for prompt, count, octets in zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True):
            group = groups.setdefault(prompt, [0, 0])
            group[0] += count
            group[1] += octets
    ordered = array("Q")
    for prompt in sorted(groups, key=lambda digest: place_of(digest, seed)):
        ordered.extend((prompt, *groups[prompt]))
    pipelines.write(f"{place}/groups-{bucket:04}", ordered.tobytes())
    return bucket, len(groups), sum(one[0] for one in groups.values()), sum(one[1] for one in groups.values())


def _sides(one: Range, held_out: frozenset[int]) -> list[Side]:
    """Write the lines of a range to their sides; return rows and bytes of training, then of validation."""
    sides = [Side(), Side()]
    with pipelines.opened(one.address) as stream:
        part = Part.read(stream, one.start, one.end, "")
        with pipelines.created(one.file("kept")) as kept, pipelines.created(one.file("held")) as held:
            part.divide(stream, set(held_out), (sides[0], kept.write), (sides[1], held.write))
    return sides
