"""The lines of a file, each bounded, so that a file without line ends costs bounded memory."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

BLOCK_BYTES = 1024 * 1024
"""Small enough for the processor's caches, large enough that neither the work per block counts nor that two threads
which share Python wait for each other after each."""
MAX_LINE_BYTES = 64 * 1024 * 1024
"""Bound of one example, inline images included. The service publishes none; this one only protects this machine."""


class RawLine(NamedTuple):
    """One line of a file, without its line end; `data` is cut at `MAX_LINE_BYTES` and then `too_long` is set."""

    number: int
    data: bytes
    too_long: bool = False


def raw_lines(stream: BinaryIO, *, limit: int = MAX_LINE_BYTES) -> Iterator[RawLine]:
    """Yield the lines of a binary stream, each at most `limit` bytes, without holding more than one."""
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
    """Go to the first line that begins in a range of bytes, and return how many bytes of the range are left.

    Args:
        stream: a buffered stream that can seek.
        start: offset of the first byte; in the middle of a line, that line belongs to the range before.
        end: offset behind the last byte.
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

    Lines are the beginning of a `bytes` object.

    Args:
        stream: a buffered binary stream.
        remaining: stop behind the line that the byte at this distance is in.
    """
    # To go back in a file is cheaper than to join what is left of a block to the next one.
    again = isinstance(getattr(stream, "raw", None), io.FileIO) and stream.seekable()
    lines, left = b"", sys.maxsize if remaining is None else remaining
    while lines or left > 0:
        room = MAX_LINE_BYTES + 2 - len(lines)
        # Behind the range, a line is read to its end, and nothing else.
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
