"""Where the lines of a dataset come from: a file, an object in a bucket, or standard input, each perhaps compressed."""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib import util
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from runner.errors import DatasetError, EngineMissingError

COMPRESSED = (".gz", ".zst")
STDIN = Path("-")

MAX_EXPANSION = 200
"""Compressed text of examples shrinks 3 to 20 times; more than this is a bomb."""
_FREE_BYTES = 64 << 20
"""Before the ratio is looked at: a few repeated lines shrink a lot."""
_BUFFER_BYTES = 512 * 1024
_ZSTD_STEP_BYTES = 2048
"""Of compressed data given to the decompressor at once: at most 64 MiB come out of them."""
_GZIP_MAGIC, _ZSTD_MAGIC = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


class BombError(DatasetError):
    """A compressed file grows out of all proportion."""

    def __init__(self, message: str) -> None:
        super().__init__(message, findings=[{"code": "compressed-bomb", "severity": "error", "message": message}])


class BrokenCompressionError(DatasetError):
    """Compressed data are corrupt or cut short."""

    def __init__(self, message: str) -> None:
        super().__init__(message, findings=[{"code": "not-text", "severity": "error", "message": message}])


@dataclass(frozen=True, slots=True)
class RemoteObject:
    """An object in a bucket, with as much of a path's manners as reports need."""

    uri: str
    size: int
    """Bytes."""
    open: Callable[[], BinaryIO]
    """Returns a stream of its bytes, which are verified at their end."""

    def __str__(self) -> str:
        return self.uri

    @property
    def name(self) -> str:
        """Return the part of the object's name behind the last slash."""
        return self.uri.rsplit("/", 1)[-1]

    @property
    def suffix(self) -> str:
        """Return the last suffix of the name, with its dot."""
        return PurePosixPath(self.name).suffix

    def as_posix(self) -> str:
        """Return the address."""
        return self.uri


Source = Path | RemoteObject


def is_compressed(source: Source) -> bool:
    """Tell by its name whether a file is read through a decompressor."""
    return source.suffix in COMPRESSED


def is_there(source: Source) -> bool:
    """Tell whether a source can be read: an object was found when it was named, standard input always is."""
    return isinstance(source, RemoteObject) or source == STDIN or source.is_file()


def is_plain(source: Source) -> bool:
    """Tell whether a source is a file that can be read at any place."""
    return isinstance(source, Path) and source != STDIN and not is_compressed(source)


def name_of(source: Source) -> str:
    """Return the name for messages."""
    return "standard input" if source == STDIN else source.name


def plain_name(source: Source) -> str:
    """Return the name without a suffix of compression."""
    return source.name.removesuffix(source.suffix) if is_compressed(source) else source.name


@contextmanager
def open_source(source: Source) -> Iterator[BinaryIO]:
    """Open a source for reading in order; what is compressed is decompressed.

    Standard input is decompressed when it begins like gzip or zstd.

    Raises:
        EngineMissingError: a decompressor is not installed.
        BombError: while reading, when the content is more than `MAX_EXPANSION` times the compressed data.
        BrokenCompressionError: while reading, when they are corrupt or cut short.
        OSError: the file cannot be read.
    """
    if isinstance(source, RemoteObject):
        with closing(source.open()) as stream:
            yield _decompressed(stream, source.suffix, source.name)
        return
    if source == STDIN:
        stdin: Any = sys.stdin.buffer
        head = stdin.peek(4)[:4] if hasattr(stdin, "peek") else b""
        suffix = ".gz" if head[:2] == _GZIP_MAGIC else ".zst" if head == _ZSTD_MAGIC else ""
        yield _decompressed(stdin, suffix, name_of(source))
        return
    with source.open("rb") as stream:
        yield _decompressed(stream, source.suffix, source.name)


@contextmanager
def plain_copy(source: Source) -> Iterator[Path]:
    """Yield a plain file with the content of a source, to be read several times or at any place.

    That is the file itself, or a temporary copy with its name.

    Raises:
        BombError, BrokenCompressionError, EngineMissingError, OSError: see `open_source`.
    """
    if isinstance(source, Path) and is_plain(source):
        yield source
        return
    with tempfile.TemporaryDirectory(prefix="runner-copy-") as folder:
        copy = Path(folder, plain_name(source) if source != STDIN else "stdin.jsonl")
        with open_source(source) as stream, copy.open("wb") as target:
            while block := stream.read(_BUFFER_BYTES):
                target.write(block)
        yield copy


def _decompressed(stream: BinaryIO, suffix: str, name: str) -> BinaryIO:
    if suffix not in COMPRESSED:
        return stream
    counted = _Counted(stream)
    if suffix == ".zst":
        if util.find_spec("zstandard") is None:
            raise EngineMissingError(
                f"{name} is compressed: reading it needs zstandard", hint="pip install 'open-model-tuning[data]'"
            )
        return io.BufferedReader(_Bounded(_ZstdStream(counted), counted), _BUFFER_BYTES)
    return io.BufferedReader(_Bounded(_gunzipped(counted), counted), _BUFFER_BYTES)


def _gunzipped(stream: Any) -> Any:
    if util.find_spec("isal") is not None:
        from isal import igzip

        return igzip.GzipFile(fileobj=stream)  # type: ignore[no-untyped-call]
    import gzip

    return gzip.GzipFile(fileobj=stream)


def _errors() -> tuple[type[Exception], ...]:
    """Return what decompressors raise on data that are corrupt or cut short."""
    import zlib

    if util.find_spec("isal") is None:
        return OSError, EOFError, zlib.error
    from isal import igzip_lib

    broken: type[Exception] = igzip_lib.IsalError  # type: ignore[assignment]
    return OSError, EOFError, zlib.error, broken


class _Counted:
    """Reads from a stream and counts; never seeks, so that it does for pipes."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.count = 0

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self.count += len(data)
        return data

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class _ZstdStream:
    """The content of zstd frames, one behind the other.

    The library's own stream reader takes a frame that is cut short for one that has ended.
    """

    def __init__(self, stream: _Counted) -> None:
        import zstandard

        self._stream = stream
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 27)
        self._frame: Any = None
        self._rest = b""
        self._ready = b""
        self._position = 0

    def read(self, size: int) -> bytes:
        import zstandard

        while self._position == len(self._ready):
            data = self._rest or self._stream.read(_ZSTD_STEP_BYTES)
            self._rest = b""
            if not data:
                if self._frame is not None:
                    raise EOFError("the last frame is cut short")
                return b""
            if self._frame is None:
                self._frame = self._decompressor.decompressobj()
            try:
                self._ready = self._frame.decompress(data)
            except zstandard.ZstdError as error:
                raise OSError(str(error)) from error
            self._position = 0
            if self._frame.eof:
                self._rest = self._frame.unused_data
                self._frame = None
        found = self._ready[self._position : self._position + size]
        self._position += len(found)
        return found


class _Bounded(io.RawIOBase):
    """Reads decompressed data and gives up when they are too many times the compressed ones."""

    def __init__(self, stream: Any, compressed: _Counted) -> None:
        self._stream = stream
        self._compressed = compressed
        self._count = 0
        self._broken = _errors()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._stream.read(len(buffer))
        except self._broken as error:
            raise BrokenCompressionError(f"the compressed data are broken ({error})") from error
        self._count += len(data)
        if self._count > MAX_EXPANSION * self._compressed.count + _FREE_BYTES:
            raise BombError(f"the content is more than {MAX_EXPANSION} times the compressed file")
        buffer[: len(data)] = data
        return len(data)
