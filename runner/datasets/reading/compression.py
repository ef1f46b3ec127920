"""The bytes of a source, decompressed as their first ones say: gzip, zstd, and zip archives with one file."""

from __future__ import annotations

import io
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from importlib import util
from pathlib import Path
from typing import Any, BinaryIO, Literal

from runner import local_files
from runner.datasets.reading.sources import STDIN, RemoteObject, Source, missing, name_of, plain_name, refusal
from runner.errors import ConfigurationError, DatasetError
from runner.installation import require
from runner.wording import counted

Compression = Literal["", "gzip", "zstd", "zip"]
HEAD_BYTES = 256 * 1024
"""Number of bytes at the beginning of a file that decide what it is."""
MAX_EXPANSION = 200
"""Compressed text of examples shrinks 3 to 20 times; more than this is a bomb."""
_FREE_BYTES = 64 << 20
"""Before the ratio is looked at: a few repeated lines shrink a lot."""
_BUFFER_BYTES = 512 * 1024
_ZSTD_STEP_BYTES = 2048
"""Compressed bytes given to the decompressor at once: they expand to at most 64 MiB."""
_MAGIC: dict[bytes, Compression] = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"PK\x03\x04": "zip"}
_IN_WORKBOOKS = frozenset({"xl/workbook.xml", "xl/workbook.bin"})


@dataclass(kw_only=True)
class OpenedBytes:
    """The content of a source, behind any compression."""

    stream: Any
    """Buffered, at the beginning."""
    head: bytes
    """The first `HEAD_BYTES` of the content, fewer only where it has no more."""
    compression: Compression = ""
    workbook: bool = False
    """Whether it is a zip archive that holds an Excel or OpenDocument workbook; it is not decompressed then."""
    notes: list[str] = field(default_factory=list)
    name: str
    """Name of the file behind any compression; its suffix is a hint."""
    local: Path | None = None
    """The file that holds the content as it is."""
    position: Callable[[], int]
    """Returns how many bytes of the source have been read, compressed ones where it is."""

    def local_copy(self, stack: ExitStack) -> Path:
        """Return a file with the content: the file itself, or a temporary one that lives as long as `stack`."""
        self.local = self.local or _spooled(self.stream, stack)
        return self.local


def compression_of(head: bytes) -> Compression:
    """Return how content is compressed that begins with these bytes."""
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), "")


def is_plain(source: Source) -> bool:
    """Tell whether a source is an uncompressed file or object, which can be read at any place."""
    if source == STDIN:
        return False
    with ExitStack() as stack:
        return not compression_of(_raw(source, stack).read(4))


@contextmanager
def open_source(source: Source) -> Iterator[BinaryIO]:
    """Open the bytes of a source, decompressed, for reading in order. Raises what `open_bytes` raises."""
    with open_bytes(source) as opened:
        yield opened.stream


@contextmanager
def open_bytes(source: Source) -> Iterator[OpenedBytes]:
    """Open the content of a source for reading in order. It is never sought in, so that pipes do.

    Raises:
        ConfigurationError: there is no such file, or it cannot be read.
        EngineMissingError: a decompressor is not installed.
        DatasetError: an archive in an archive, of several files, or encrypted (`not-text`). While reading, compressed
            data that are corrupt or cut short (`not-text`), or that grow to more than `MAX_EXPANSION` times their size
            (`compressed-bomb`).
    """
    with ExitStack() as stack:
        stream = _raw(source, stack)
        head = stream.read(HEAD_BYTES)
        local = source if isinstance(source, Path) and source != STDIN and source.is_file() else None
        if local is not None:
            stream.seek(0)
            position = stream.tell
        else:
            whole = _Rejoined(head, stream)
            stream, position = _buffered(whole), lambda: whole.count
        opened = OpenedBytes(stream=stream, head=head, name=plain_name(source), local=local, position=position)
        _decompress(opened, name_of(source), stack)
        yield opened


def _raw(source: Source, stack: ExitStack) -> Any:
    """Return the bytes as they are stored."""
    if problem := missing(source):
        raise ConfigurationError(problem)
    if isinstance(source, RemoteObject):
        return stack.enter_context(closing(source.open()))
    if source == STDIN:
        return sys.stdin.buffer
    try:
        return stack.enter_context(source.open("rb"))
    except OSError as error:
        raise local_files.unreadable(source, error) from error


def _decompress(opened: OpenedBytes, name: str, stack: ExitStack) -> None:
    compression = compression_of(opened.head)
    if not compression:
        return
    if compression == "zip":
        path = opened.local_copy(stack)
        content = _only_member(path, name, opened, stack)
        if content is None:
            return
        size = path.stat().st_size
        bounded = _Bounded(content, lambda: size, name)
    else:
        inflated = _gunzipped(opened.stream) if compression == "gzip" else _zstd(opened.stream, name)
        bounded = _Bounded(inflated, opened.position, name)
    content = _buffered(bounded)
    opened.compression, opened.local, opened.head = compression, None, content.read(HEAD_BYTES)
    opened.stream = _buffered(_Rejoined(opened.head, content))
    inner = compression_of(opened.head)
    if inner == "zip":
        path = opened.local_copy(stack)
        if zipfile.is_zipfile(path) and _only_member(path, name, opened, stack) is None:
            return
    if inner:
        raise refusal("not-text", f"{name} holds {inner} inside {compression}", file=name, fix="decompress it once")


def _only_member(path: Path, name: str, opened: OpenedBytes, stack: ExitStack) -> Any:
    """Return a stream of the only file in an archive; None after marking a workbook, which is one itself."""
    try:
        archive = stack.enter_context(zipfile.ZipFile(path))
        names = archive.namelist()
        kind = archive.open("mimetype").read(64) if "mimetype" in names else b""
        if not _IN_WORKBOOKS.isdisjoint(names) or b"opendocument.spreadsheet" in kind:
            if sum(info.file_size for info in archive.infolist()) > MAX_EXPANSION * path.stat().st_size + _FREE_BYTES:
                raise _bomb(name, "workbook")
            opened.workbook = True
            return None
        files = [info for info in archive.infolist() if not info.is_dir() and not info.filename.startswith("__MACOSX/")]
        if len(files) != 1:
            shown = ", ".join(info.filename for info in files[:10]) + (", …" if len(files) > 10 else "")
            count = counted(len(files), "file")
            message = f"the zip archive {name} holds {count}, not one{': ' if files else ''}{shown}"
            raise refusal("not-text", message, file=name, fix="decompress it and choose one of the files")
        if files[0].flag_bits & 1:
            raise refusal("not-text", f"the zip archive {name} is encrypted", file=name, fix="decompress it first")
        opened.name = files[0].filename
        opened.notes.append(f"the archive's only file, {files[0].filename}")
        return stack.enter_context(archive.open(files[0]))
    except _errors() as error:
        message = "the zip archive is broken"
        raise refusal("not-text", message, file=name, line=1, fix="compress it again") from error


def _bomb(name: str, what: str) -> DatasetError:
    return refusal("compressed-bomb", f"the content is more than {MAX_EXPANSION} times the {what}", file=name)


def _spooled(stream: Any, stack: ExitStack) -> Path:
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="runner-copy-"))
    path = Path(folder, "content")
    with path.open("wb") as target:
        while block := stream.read(_BUFFER_BYTES):
            target.write(block)
    return path


def _buffered(stream: io.RawIOBase) -> io.BufferedReader:
    return io.BufferedReader(stream, _BUFFER_BYTES)


def _zstd(stream: Any, name: str) -> Any:
    require(f"{name} is compressed: reading it", "data", zstandard="zstandard")
    return _ZstdStream(stream)


def _gunzipped(stream: Any) -> Any:
    if util.find_spec("isal") is not None:
        from isal import igzip

        return igzip.GzipFile(fileobj=stream)  # type: ignore[no-untyped-call]
    import gzip

    return gzip.GzipFile(fileobj=stream)


def _errors() -> tuple[type[BaseException], ...]:
    """Return what decompressors raise on data that are corrupt or cut short."""
    usual: tuple[type[BaseException], ...] = (OSError, EOFError, zlib.error, zipfile.BadZipFile, RuntimeError)
    if util.find_spec("isal") is None:
        return usual
    from isal import igzip_lib

    broken: type[Exception] = igzip_lib.IsalError  # type: ignore[assignment]
    return *usual, broken


class _Rejoined(io.RawIOBase):
    """A stream whose beginning has been read already. It counts its bytes and never seeks: a pipe will do."""

    def __init__(self, head: bytes, stream: Any) -> None:
        self._head = head
        self._stream = stream
        self.count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._head[: len(buffer)] or self._stream.read(len(buffer))
        self._head = self._head[len(buffer) :]
        self.count += len(data)
        buffer[: len(data)] = data
        return len(data)


class _ZstdStream:
    """The content of zstd frames, one behind the other.

    The library's own stream reader takes a frame that is cut short for one that has ended.
    """

    def __init__(self, stream: Any) -> None:
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

    def __init__(self, stream: Any, compressed: Callable[[], int], name: str) -> None:
        self._stream = stream
        self._compressed = compressed
        self._name = name
        self._count = 0
        self._broken = _errors()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._stream.read(len(buffer))
        except self._broken as error:
            what = "cut short" if isinstance(error, EOFError) else getattr(error, "strerror", None) or "damaged"
            message = f"the compressed data are broken ({what})"
            raise refusal("not-text", message, file=self._name) from error
        self._count += len(data)
        if self._count > MAX_EXPANSION * self._compressed() + _FREE_BYTES:
            raise _bomb(self._name, "compressed file")
        buffer[: len(data)] = data
        return len(data)
