"""Datasets beyond one machine: the same pure function of byte ranges, run by Apache Beam.

`totals_of_stream` adds up each range wherever a worker of the pipeline runs; totals of neighbouring ranges
add up, in any grouping, to that of the whole file, so that the findings are those of a check on this machine, in the
same order.
"""

from __future__ import annotations

import dataclasses
import io
import tempfile
from array import array
from collections import Counter
from collections.abc import Sequence
from importlib import util
from pathlib import Path
from typing import Any

import msgspec

from runner.datasets.checking.columns import Column
from runner.datasets.checking.ranges import Engine, Settings, totals_of_stream
from runner.datasets.checking.totals import Tally, Totals
from runner.datasets.examples import Finding
from runner.datasets.reading.compression import is_plain
from runner.datasets.reading.lines import BLOCK_BYTES
from runner.datasets.reading.sources import RemoteObject, Source
from runner.errors import ConfigurationError, EngineMissingError
from runner.installation import install_hint

RANGE_BYTES = 64 << 20
LOCAL_RUNNERS = frozenset({"DirectRunner", "FnApiRunner"})


def beam_engine(runner: str = "DirectRunner", options: Sequence[str] = (), *, range_bytes: int = RANGE_BYTES) -> Engine:
    """Return an engine for `check_files`.

    Args:
        runner: name of a Beam runner, for example `DataflowRunner`.
        options: of the pipeline, as `--temp_location=gs://bucket/tmp`.
        range_bytes: bytes of a range, the unit of work.

    Raises:
        EngineMissingError: Apache Beam is not installed.
        ConfigurationError: a runner elsewhere without a `temp_location` that it can write to.
    """
    if util.find_spec("apache_beam") is None:
        raise EngineMissingError("this engine needs Apache Beam", hint=install_hint("beam"))
    given = [option.partition("=")[2] for option in options if option.partition("=")[0] == "--temp_location"]
    if runner not in LOCAL_RUNNERS and not given:
        message = f"{runner} needs a place for its result that its workers reach"
        raise ConfigurationError(message, problems=[message], hint="--pipeline temp_location=gs://BUCKET/FOLDER")

    def run(source: Source, settings: Settings) -> Totals:
        if not is_plain(source):
            message = f"{source}: pipes and compressed files cannot be read at any place"
            raise ConfigurationError(message, problems=[message], hint="decompress it first, or omit --engine")
        if runner not in LOCAL_RUNNERS and not isinstance(source, RemoteObject):
            message = f"{source} is on this machine, where the workers of {runner} are not"
            raise ConfigurationError(message, problems=[message], hint="`runner data upload`, then its gs:// address")
        if runner not in LOCAL_RUNNERS and settings.tokenizer is not None:
            message = f"--tokenizer is a folder of this machine, where the workers of {runner} are not"
            raise ConfigurationError(message, problems=[message], hint="leave it out: tokens are estimated")
        address = source.uri if isinstance(source, RemoteObject) else str(source.resolve())
        size = source.size if isinstance(source, RemoteObject) else source.stat().st_size
        with tempfile.TemporaryDirectory(prefix="runner-beam-") as folder:
            return _run(address, size, settings, runner, list(options), given[0] if given else folder, range_bytes)

    return run


def _run(
    address: str, size: int, settings: Settings, runner: str, options: list[str], place: str, range_bytes: int
) -> Totals:
    import apache_beam as beam
    from apache_beam.io.filesystems import FileSystems
    from apache_beam.options.pipeline_options import PipelineOptions

    ranges = [
        (index, start, min(start + range_bytes, size)) for index, start in enumerate(range(0, size or 1, range_bytes))
    ]
    packed = _encode_settings(settings)
    target = FileSystems.join(place, f"totals-{abs(hash((address, size))):x}.bin")

    def part(item: tuple[int, int, int]) -> list[tuple[int, int, bytes]]:
        index, start, end = item
        return [(index, index, encode(_totals(address, start, end, packed)))]

    def write(parts: list[tuple[int, int, bytes]]) -> None:
        with FileSystems.create(target) as stream:
            stream.write(parts[0][2])

    with beam.Pipeline(runner=_runner(runner), options=PipelineOptions(options)) as pipeline:
        totals = (
            pipeline
            | "ranges" >> beam.Create(ranges)
            | "share" >> beam.Reshuffle()
            | "totals_of_range" >> beam.Map(part)
            | "add up" >> beam.CombineGlobally(add_up)
        )
        _ = totals | "write" >> beam.Map(write)
    with FileSystems.open(target) as stream:
        return decode(stream.read())


def _runner(name: str) -> Any:
    if name not in LOCAL_RUNNERS:
        return name
    # What `DirectRunner` stands for may fetch a program from the network; this one is part of the package.
    from apache_beam.runners.portability.fn_api_runner import (
        FnApiRunner,
    )

    return FnApiRunner()


def _totals(address: str, start: int, end: int, settings: bytes) -> Totals:
    """Return the totals of a range, on whichever machine this runs."""
    from apache_beam.io.filesystem import CompressionTypes
    from apache_beam.io.filesystems import FileSystems

    plain = CompressionTypes.UNCOMPRESSED
    with FileSystems.open(address, "application/octet-stream", compression_type=plain) as opened:
        stream: Any = opened if isinstance(opened, io.BufferedIOBase) else io.BufferedReader(opened, BLOCK_BYTES)
        return totals_of_stream(stream, start, end, _decode_settings(settings))


def add_up(groups: Any) -> list[tuple[int, int, bytes]]:
    """Join totals of neighbouring ranges; what is not joined yet stays beside it.

    Args:
        groups: lists of first range, last range and encoded totals.
    """
    parts = sorted(part for group in groups for part in group)
    joined: list[tuple[int, int, bytes]] = []
    whole: Totals | None = None
    first = last = -1
    for start, end, data in parts:
        if whole is not None and start == last + 1:
            whole.add(decode(data))
            last = end
            continue
        if whole is not None:
            joined.append((first, last, encode(whole)))
        whole, first, last = decode(data), start, end
    if whole is not None:
        joined.append((first, last, encode(whole)))
    return joined


def encode(totals: Totals) -> bytes:
    """Return totals as bytes, to be sent to another machine."""
    return msgspec.msgpack.encode(_packed(totals))


def decode(data: bytes) -> Totals:
    """Return the totals in bytes that `encode` made; unlike unpickling it, this runs no code of theirs."""
    totals: Totals = _unpacked(Totals(), msgspec.msgpack.decode(data))
    return totals


def _packed(value: Any) -> Any:
    if isinstance(value, (Totals, Tally)):
        return {item.name: _packed(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, Column):
        return b"".join(chunk.tobytes() for chunk in value.chunks())
    if isinstance(value, Finding):
        return value.to_json()
    return [_packed(item) for item in value] if isinstance(value, list) else value


def _unpacked(like: Any, value: Any) -> Any:
    """Return what was packed, of the type of `like`."""
    if isinstance(like, (Totals, Tally)):
        for item in dataclasses.fields(like):
            setattr(like, item.name, _unpacked(getattr(like, item.name), value[item.name]))
        return like
    if isinstance(like, Column):
        return Column(array("Q", value))
    if isinstance(like, Counter):
        return Counter(value)
    if isinstance(like, list):
        return [
            Finding(**item) if isinstance(item, dict) else tuple(item) if isinstance(item, list) else item
            for item in value
        ]
    return value


def _encode_settings(settings: Settings) -> bytes:
    body = {item.name: getattr(settings, item.name) for item in dataclasses.fields(settings)}
    return msgspec.msgpack.encode({**body, "tokenizer": str(settings.tokenizer) if settings.tokenizer else None})


def _decode_settings(data: bytes) -> Settings:
    body = msgspec.msgpack.decode(data)
    return Settings(**{**body, "tokenizer": Path(body["tokenizer"]) if body["tokenizer"] else None})
