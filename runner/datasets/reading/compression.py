"""The bytes of a source, decompressed according to the first ones: gzip, zstd, and zip archives with one file."""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib import util
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Literal

from runner import local_files
from runner.datasets.reading.sources import STDIN, RemoteObject, Source, missing, name_of, plain_name, refusal
from runner.errors import ConfigurationError, DatasetError
from runner.installation import require
from runner.wording import counted

Compression = Literal["", "gzip", "zstd", "zip"]
HEAD_BYTES = 256 * 1024
"""Number of bytes at the beginning of a file that determine its type."""
MAX_EXPANSION = 200
"""Compressed text of examples shrinks by a factor of 3 to 20; a higher ratio than this indicates a bomb."""
_FREE_BYTES = 64 << 20
"""Bytes before the ratio is checked: a few repeated lines shrink a lot."""
_BUFFER_BYTES = 512 * 1024
_ZSTD_STEP_BYTES = 2048
"""Compressed bytes passed to the decompressor at once: they expand to at most 64 MiB."""
_MAGIC: dict[bytes, Compression] = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"PK\x03\x04": "zip"}
_IN_WORKBOOKS = frozenset({"xl/workbook.xml", "xl/workbook.bin"})


@dataclass(kw_only=True)
class OpenedBytes:
    """The content of a source after decompression."""

    stream: Any
    """A buffered stream, at its beginning."""
    head: bytes
    """The first `HEAD_BYTES` of the content; fewer only if the content is shorter."""
    compression: Compression = ""
    workbook: bool = False
    """Whether it is a zip archive that is an Excel or OpenDocument workbook; it is then not decompressed."""
    notes: list[str] = field(default_factory=list)
    name: str
    """Name of the file without any compression suffix; the remaining suffix is a hint."""
    local: Path | None = None
    """The local file that has exactly this content."""
    position: Callable[[], int]
    """Returns the number of bytes read from the source; compressed bytes if the source is compressed."""

    def local_copy(self, stack: ExitStack) -> Path:
        """Return a file with the content: the file itself, or a temporary one that exists as long as `stack`."""
        self.local = self.local or spooled(self.stream, "content", stack)
        return self.local


def compression_of(head: bytes) -> Compression:
    """Return the compression of content that begins with these bytes."""
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), "")


def is_plain(source: Source) -> bool:
    """Return whether a source is an uncompressed file or object, which can be read at any place."""
    if source == STDIN:
        return False
    with ExitStack() as stack:
        return not compression_of(_raw(source, stack).read(4))


@contextmanager
def open_source(source: Source) -> Iterator[BinaryIO]:
    """Open the bytes of a source, decompressed, for reading in order. Raises the errors of `open_bytes`."""
    with open_bytes(source) as opened:
        yield opened.stream


@contextmanager
def open_bytes(source: Source) -> Iterator[OpenedBytes]:
    """Open the content of a source for reading in order. It never seeks, so that pipes work.

    Raises:
        ConfigurationError: the file does not exist or cannot be read.
        EngineMissingError: a decompressor is not installed.
        DatasetError: the source is an archive in an archive, has several files, or is encrypted (`not-text`). While
            reading: compressed data is corrupt or incomplete (`not-text`), or expands to more than `MAX_EXPANSION`
            times its size (`compressed-bomb`).
    """
    with ExitStack() as stack:
        stream = _raw(source, stack)
        head = stream.read(HEAD_BYTES)
        local = source if isinstance(source, Path) and source != STDIN and source.is_file() else None
        if local is not None:
            stream.seek(0)
            position = stream.tell
        else:
            whole = Pieces(chain((head,), _pieces(stream)))
            stream, position = io.BufferedReader(whole, _BUFFER_BYTES), lambda: whole.count
        opened = OpenedBytes(stream=stream, head=head, name=plain_name(source), local=local, position=position)
        _decompress(opened, name_of(source), stack)
        yield opened


def _raw(source: Source, stack: ExitStack) -> Any:
    """Return the stored bytes, without decompression."""
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
        bounded = _bounded(_pieces(content), lambda: size, name)
    else:
        if compression == "zstd":
            require(f"{name} is compressed: reading it", "data", zstandard="zstandard")
        inflated = _pieces(_gunzipped(opened.stream)) if compression == "gzip" else _unzstd(opened.stream)
        bounded = _bounded(inflated, opened.position, name)
    content = buffered(bounded)
    opened.compression, opened.local, opened.head = compression, None, content.read(HEAD_BYTES)
    opened.stream = buffered(chain((opened.head,), _pieces(content)))
    inner = compression_of(opened.head)
    if inner == "zip":
        path = opened.local_copy(stack)
        if zipfile.is_zipfile(path) and _only_member(path, name, opened, stack) is None:
            return
    if inner:
        raise refusal("not-text", f"{name} holds {inner} inside {compression}", file=name, fix="decompress it once")


def _only_member(path: Path, name: str, opened: OpenedBytes, stack: ExitStack) -> Any:
    """Return a stream of the only file in an archive; None after marking a workbook, which is itself an archive."""
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


def spooled(stream: Any, name: str, stack: ExitStack) -> Path:
    """Return a temporary named file with the rest of a stream; it exists as long as `stack`."""
    path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="runner-copy-")), name)
    with path.open("wb") as target:
        shutil.copyfileobj(stream, target, _BUFFER_BYTES)
    return path


def _gunzipped(stream: Any) -> Any:
    if util.find_spec("isal") is not None:
        from isal import igzip

        return igzip.GzipFile(fileobj=stream)  # type: ignore[no-untyped-call]
    import gzip

    return gzip.GzipFile(fileobj=stream)


def _errors() -> tuple[type[BaseException], ...]:
    """Return the exceptions that decompressors raise on corrupt or incomplete data."""
    usual: tuple[type[BaseException], ...] = (OSError, EOFError, zlib.error, zipfile.BadZipFile, RuntimeError)
    if util.find_spec("isal") is None:
        return usual
    from isal import igzip_lib

    broken: type[Exception] = igzip_lib.IsalError  # type: ignore[assignment]
    return *usual, broken


class Pieces(io.RawIOBase):
    """A stream of pieces that are created while it is read. It counts their bytes and never seeks, so pipes work."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._rest = memoryview(b"")
        self.count = 0

    def readable(self) -> bool:
        """Return True: it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read some bytes; 0 at the end. Raises the errors of creating a piece."""
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = memoryview(piece)
            self.count += len(piece)
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


def buffered(pieces: Iterable[bytes]) -> io.BufferedReader:
    """Return a stream of pieces of bytes that are created while it is read."""
    return io.BufferedReader(Pieces(pieces), _BUFFER_BYTES)


def _pieces(stream: Any) -> Iterator[bytes]:
    return iter(partial(stream.read, _BUFFER_BYTES), b"")


def _unzstd(stream: Any) -> Iterator[bytes]:
    """Yield the content of zstd frames, one after another.

    The library's own stream reader does not distinguish an incomplete frame from a complete one.
    """
    import zstandard

    decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 27)
    frame: Any = None
    rest = b""
    while data := rest or stream.read(_ZSTD_STEP_BYTES):
        frame, rest = frame or decompressor.decompressobj(), b""
        try:
            content = frame.decompress(data)
        except zstandard.ZstdError as error:
            raise OSError(str(error)) from error
        yield content
        if frame.eof:
            frame, rest = None, frame.unused_data
    if frame is not None:
        raise EOFError("the last frame is cut short")


def _bounded(pieces: Iterator[bytes], compressed: Callable[[], int], name: str) -> Iterator[bytes]:
    """Yield decompressed data, until it exceeds the allowed ratio to the compressed data. Raises DatasetError."""
    count = 0
    try:
        for piece in pieces:
            count += len(piece)
            if count > MAX_EXPANSION * compressed() + _FREE_BYTES:
                raise _bomb(name, "compressed file")
            yield piece
    except _errors() as error:
        what = "cut short" if isinstance(error, EOFError) else getattr(error, "strerror", None) or "damaged"
        raise refusal("not-text", f"the compressed data are broken ({what})", file=name) from error
