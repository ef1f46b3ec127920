"""The lines of a file, each of limited length, so that a file without line ends uses limited memory."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

BLOCK_BYTES = 1024 * 1024
"""Small enough for the processor's caches; large enough that the work per block is negligible, and that two threads
that share Python do not wait for each other after each block."""
MAX_LINE_BYTES = 64 * 1024 * 1024
"""Maximum size of an example, including inline images. The service publishes none; this protects only this machine."""


class RawLine(NamedTuple):
    """A line of a file, without its line end. If `too_long` is set, `data` ends at `MAX_LINE_BYTES`."""

    number: int
    data: bytes
    too_long: bool = False


def raw_lines(stream: BinaryIO, *, limit: int = MAX_LINE_BYTES) -> Iterator[RawLine]:
    """Yield the lines of a binary stream, each at most `limit` bytes, without keeping more than one."""
    number = 0
    while True:
        data = stream.readline(limit + 2)
        if not data:
            return
        number += 1
        if len(data.rstrip(b"\r\n")) > limit:
            yield RawLine(number, data[:limit], too_long=True)
            while data and not data.endswith(b"\n"):
                data = stream.readline(1 << 20)
            continue
        yield RawLine(number, data.rstrip(b"\r\n"))


def seek_range(stream: BinaryIO, start: int, end: int) -> int:
    """Go to the first line that begins in a range of bytes, and return how many bytes of the range remain.

    Args:
        stream: a buffered, seekable stream.
        start: offset of the first byte; if it is inside a line, that line belongs to the range before.
        end: offset after the last byte.
    """
    stream.seek(max(0, start - 1))
    if not start:
        return end
    line = stream.readline(1 << 20)
    while line and not line.endswith(b"\n"):
        line = stream.readline(1 << 20)
    return end - stream.tell()


def blocks(stream: BinaryIO, remaining: int | None = None) -> Iterator[memoryview | None]:
    """Yield whole lines of a stream, about `BLOCK_BYTES` at a time, and None for a line that is too long.

    The lines are at the beginning of a `bytes` object.

    Args:
        stream: a buffered binary stream.
        remaining: stop after the line with the byte at this distance.
    """
    # Seeking back in a file is cheaper than joining the rest of a block to the next one.
    again = isinstance(getattr(stream, "raw", None), io.FileIO) and stream.seekable()
    lines, left = b"", sys.maxsize if remaining is None else remaining
    while lines or left > 0:
        room = MAX_LINE_BYTES + 2 - len(lines)
        # After the range, only the rest of the line is read.
        data = stream.read(min(max(BLOCK_BYTES, len(lines)), room, left)) if left > 0 else stream.readline(room)
        left -= len(data)
        lines += data
        end = len(lines) if not data else lines.rfind(b"\n") + 1
        if len(lines) > MAX_LINE_BYTES and len(lines[: lines.find(b"\n") + 1 or None].rstrip(b"\r\n")) > MAX_LINE_BYTES:
            while data and not data.endswith(b"\n"):
                data = stream.readline(BLOCK_BYTES)
                left -= len(data)
            lines = b""
            yield None
        elif end:
            yield memoryview(lines)[:end]
            if again and end < len(lines):
                stream.seek(end - len(lines), io.SEEK_CUR)
                left += len(lines) - end
                end = len(lines)
            lines = lines[end:]
        elif not data:
            return
