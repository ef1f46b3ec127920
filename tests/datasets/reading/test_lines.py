"""Blocks hold the lines of a stream, whatever the stream is and however it is cut."""

from __future__ import annotations

import gzip
import io
import os
import random
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from threading import Thread
from typing import Any, BinaryIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.datasets.reading import lines
from runner.datasets.reading.lines import blocks, raw_lines, seek_range

SIZES = [1, 2, 3, 7, 16, 64, 1000]


def _file(path: Path, data: bytes, buffer: int) -> BinaryIO:
    path.write_bytes(data)
    return path.open("rb", buffering=buffer)


def _pipe(path: Path, data: bytes, buffer: int) -> BinaryIO:
    reading, writing = os.pipe()

    def write() -> None:
        with os.fdopen(writing, "wb") as stream:
            stream.write(data)

    Thread(target=write).start()
    return os.fdopen(reading, "rb", buffer)


def _packed(path: Path, data: bytes, buffer: int) -> BinaryIO:
    path.write_bytes(gzip.compress(data))
    return io.BufferedReader(gzip.open(path), buffer)


STREAMS: dict[str, Callable[[Path, bytes, int], AbstractContextManager[Any]]] = {
    "file": _file,
    "pipe": _pipe,
    "packed": _packed,
    "memory": lambda _, data, buffer: io.BytesIO(data),
}


def _lines_of(stream: BinaryIO, remaining: int | None = None) -> list[bytes | None]:
    found: list[bytes | None] = []
    for block in blocks(stream, remaining):
        if block is None:
            found.append(None)
        else:
            assert isinstance(block.obj, bytes)
            assert block.obj.startswith(bytes(block)), "the beginning of its object"
            assert block, "no empty ones"
            found += bytes(block).removesuffix(b"\n").split(b"\n")
    return [line.rstrip(b"\r") if line is not None else None for line in found]


def _expected(data: bytes, limit: int) -> list[bytes | None]:
    return [None if raw.too_long else raw.data for raw in raw_lines(io.BytesIO(data), limit=limit)]


_DATA = st.lists(st.binary(max_size=40) | st.sampled_from([b"", b"\n", b"a" * 90, b"\r\n", b"\n\n\n"])).map(b"\n".join)


@pytest.mark.parametrize("kind", STREAMS)
@given(data=_DATA, size=st.sampled_from(SIZES), limit=st.sampled_from([5, 30, 60, 10**6]), buffer=st.integers(2, 99))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_blocks_hold_the_lines_of_any_stream(
    tmp_path: Path, kind: str, data: bytes, size: int, limit: int, buffer: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "BLOCK_BYTES", size)
        patch.setattr(lines, "MAX_LINE_BYTES", limit)
        with STREAMS[kind](tmp_path / "t", data, buffer) as stream:
            assert _lines_of(stream) == _expected(data, limit)


@given(data=_DATA, size=st.sampled_from(SIZES), seed=st.integers(0, 99), limit=st.sampled_from([30, 10**6]))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_ranges_of_a_file_hold_each_line_once(
    tmp_path: Path, data: bytes, size: int, seed: int, limit: int
) -> None:
    draw = random.Random(seed)
    edges = sorted(draw.randint(0, len(data)) for _ in range(draw.randint(0, 6)))
    found: list[bytes | None] = []
    with pytest.MonkeyPatch.context() as patch, _file(tmp_path / "t", data, 16) as stream:
        patch.setattr(lines, "BLOCK_BYTES", size)
        patch.setattr(lines, "MAX_LINE_BYTES", limit)
        for start, end in zip([0, *edges], [*edges, len(data)], strict=True):
            found += _lines_of(stream, seek_range(stream, start, end))
    assert found == _expected(data, limit)


def test_a_line_of_many_blocks_is_read_in_proportion_to_its_length(tmp_path: Path) -> None:
    """Each read is as long as what is there of the line, so that it's not copied once for each block."""
    calls: list[int] = []

    class Counted(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            calls.append(size or 0)
            return super().read(size)

    data = b"a" * (lines.BLOCK_BYTES * 60) + b"\n"
    assert _lines_of(Counted(data)) == [data.strip()]
    assert len(calls) < 12
