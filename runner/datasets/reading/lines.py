"""The lines of a file, each bounded, so that a file without line ends costs bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

BLOCK_BYTES = 256 * 1024
"""Small enough for the processor's second-level cache, large enough that the work per block does not count."""
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


def blocks(stream: BinaryIO, remaining: int | None = None) -> Iterator[bytes | None]:
    """Yield whole lines of a stream, about `BLOCK_BYTES` at a time, and None for a line that is too long.

    Args:
        stream: a buffered binary stream.
        remaining: stop behind the line that the byte at this distance is in.
    """
    line = b""  # whose end has not been read yet
    while True:
        data = stream.read(BLOCK_BYTES if remaining is None else min(BLOCK_BYTES, max(0, remaining)))
        if remaining is not None:
            remaining -= len(data)
        if last := data.rfind(b"\n") + 1:
            # Nothing is read line by line here: each byte of the file is copied once.
            yield b"".join((line, memoryview(data)[:last]))
            line = data[last:]
            continue
        line += data
        if not line:
            return
        # A line longer than a block, or the last one.
        room = MAX_LINE_BYTES + 2 - len(line)
        rest = stream.readline(room)
        line += rest
        read = len(rest)
        if len(line) > MAX_LINE_BYTES and (
            (len(rest) == room and not rest.endswith(b"\n")) or len(line.rstrip(b"\r\n")) > MAX_LINE_BYTES
        ):
            while not rest.endswith(b"\n") and (rest := stream.readline(BLOCK_BYTES)):
                read += len(rest)
            yield None
        else:
            yield line
        line = b""
        if remaining is not None:
            remaining -= read
