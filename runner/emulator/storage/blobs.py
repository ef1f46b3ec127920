"""Object data on disk: files with random names, complete and synced before a row can name them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import google_crc32c
from anyio import to_thread

from runner.emulator.context import Emulator
from runner.emulator.storage.tables import INLINE_LIMIT

PARTIAL = ".partial"
"""Suffix of an incomplete file, which no row names."""
CHUNK = 1024 * 1024
"""Bytes that are read or written with one call in a thread."""


@dataclass(slots=True)
class Payload:
    """Data for an object: in `inline` or in the file `blob`."""

    size: int
    crc32c: int
    md5: bytes | None
    inline: bytes | None = None
    blob: str | None = None
    components: int | None = None


def new_id() -> str:
    """Return a random name for a file or an upload."""
    return secrets.token_hex(16)


def inline_payload(data: bytes) -> Payload:
    """Return small data as a payload without a file."""
    digest = hashlib.md5(data, usedforsecurity=False).digest()
    return Payload(len(data), google_crc32c.value(data), digest, inline=data)


def sync_directory(directory: Path) -> None:
    """Make renames and new names of a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class BlobWriter:
    """Receives data of unknown length: keeps small data in memory, then writes a file from a thread.

    Call `finish` to get the payload, or `discard`.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._pending: list[bytes] = []
        self._pending_size = 0
        self._file: BinaryIO | None = None
        self._name = ""
        self._size = 0
        self._crc = 0
        self._md5 = hashlib.md5(usedforsecurity=False)

    async def write(self, data: bytes) -> None:
        """Append data."""
        self._pending.append(data)
        self._pending_size += len(data)
        if self._pending_size >= CHUNK:
            await to_thread.run_sync(self._flush)

    async def finish(self) -> Payload:
        """Return the payload, whose file is on disk under its final name."""
        if self._file is None and self._pending_size <= INLINE_LIMIT:
            return inline_payload(b"".join(self._pending))
        return await to_thread.run_sync(self.finish_file)

    def write_now(self, data: bytes) -> None:
        """Append data from a thread that can block."""
        self._pending.append(data)
        self._pending_size += len(data)
        self._flush()

    def finish_file(self) -> Payload:
        """Do the same as `finish`, always with a file, from a thread that can block."""
        self._flush()
        file = self._open()
        file.flush()
        os.fsync(file.fileno())
        file.close()
        (self._directory / (self._name + PARTIAL)).rename(self._directory / self._name)
        sync_directory(self._directory)
        return Payload(self._size, self._crc, self._md5.digest(), blob=self._name)

    def discard(self) -> None:
        """Discard the written data."""
        self._pending.clear()
        if self._file is not None:
            with contextlib.suppress(OSError):  # it flushes first, to a disk that may be full
                self._file.close()
            (self._directory / (self._name + PARTIAL)).unlink(missing_ok=True)
            (self._directory / self._name).unlink(missing_ok=True)

    def _open(self) -> BinaryIO:
        if self._file is None:
            self._name = new_id()
            self._file = (self._directory / (self._name + PARTIAL)).open("xb")
        return self._file

    def _flush(self) -> None:
        data = self._pending[0] if len(self._pending) == 1 else b"".join(self._pending)
        self._pending.clear()
        self._pending_size = 0
        if data:
            self._open().write(data)
            self._crc = google_crc32c.extend(self._crc, data)
            self._md5.update(data)
            self._size += len(data)


def store_file(directory: Path, source: Path) -> Payload:
    """Copy a file into the store; blocks."""
    with source.open("rb") as file:
        head = file.read(INLINE_LIMIT + 1)
        if len(head) <= INLINE_LIMIT:
            return inline_payload(head)
        writer = BlobWriter(directory)
        try:
            writer.write_now(head)
            while chunk := file.read(CHUNK):
                writer.write_now(chunk)
            return writer.finish_file()
        except BaseException:
            writer.discard()
            raise


def concatenate(directory: Path, sources: list[bytes | str]) -> Payload:
    """Join data: bytes unchanged, names as files of `directory`. Blocks. Raises FileNotFoundError."""
    writer = BlobWriter(directory)
    try:
        for source in sources:
            if isinstance(source, bytes):
                writer.write_now(source)
                continue
            with (directory / source).open("rb") as file:
                while chunk := file.read(CHUNK):
                    writer.write_now(chunk)
        payload = writer.finish_file()
    except BaseException:
        writer.discard()
        raise
    # The service stores no MD5 for composed objects.
    payload.md5 = None
    return payload


def unlink(emulator: Emulator, names: Collection[str]) -> None:
    """Delete files that no row names any more. Open files stay readable."""
    if names:
        for name in names:
            (emulator.blobs / name).unlink(missing_ok=True)
