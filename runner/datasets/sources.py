"""Where the lines of a dataset come from: a plain file, a compressed one, or standard input."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import util
from pathlib import Path
from typing import Any, BinaryIO

from runner.errors import EngineMissingError, RunnerError

COMPRESSED = (".gz", ".zst")
STDIN = Path("-")

MAX_EXPANSION = 200
"""Compressed text of examples shrinks 3 to 20 times; more than this is a bomb."""
_FREE_BYTES = 64 << 20
"""Before the ratio is looked at: a few repeated lines shrink a lot."""


class BombError(RunnerError):
    """A compressed file grows out of all proportion."""


def is_compressed(path: Path) -> bool:
    """Tell by its name whether a file is read through a decompressor."""
    return path.suffix in COMPRESSED


@contextmanager
def open_source(path: Path) -> Iterator[BinaryIO]:
    """Open a file's lines for reading in order.

    Raises:
        EngineMissingError: a decompressor is not installed.
        BombError: while reading, when the content is more than `MAX_EXPANSION` times the file.
        OSError: the compressed data are broken; also EOFError for a file that is cut short.
    """
    if path == STDIN:
        import sys

        yield sys.stdin.buffer
        return
    if not is_compressed(path):
        with path.open("rb") as stream:
            yield stream
        return
    name = "isal" if path.suffix == ".gz" else "zstandard"
    if util.find_spec(name) is None and name == "zstandard":
        raise EngineMissingError(f"{path.name} is compressed: reading it needs {name}", hint=f"pip install {name}")
    with path.open("rb") as raw, _decompressor(raw, path.suffix) as content:
        bounded = _Bounded(content, MAX_EXPANSION * path.stat().st_size + _FREE_BYTES)
        yield io.BufferedReader(bounded, 512 * 1024)


def _decompressor(raw: BinaryIO, suffix: str) -> Any:
    if suffix == ".zst":
        import zstandard

        return zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(raw, read_across_frames=True)
    if util.find_spec("isal") is not None:
        from isal import igzip

        return igzip.GzipFile(fileobj=raw)  # type: ignore[no-untyped-call]
    import gzip

    return gzip.GzipFile(fileobj=raw)


class _Bounded(io.RawIOBase):
    """Reads from a stream and gives up behind a number of bytes."""

    def __init__(self, stream: Any, limit: int) -> None:
        self._stream = stream
        self._left = limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        self._left -= len(data)
        if self._left < 0:
            raise BombError(f"the content is more than {MAX_EXPANSION} times the compressed file")
        buffer[: len(data)] = data
        return len(data)
