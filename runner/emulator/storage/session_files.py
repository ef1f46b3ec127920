"""The files of resumable uploads, and their progress."""

from __future__ import annotations

import asyncio
import hashlib
import os
import weakref
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import google_crc32c
from anyio import to_thread

from runner.emulator.context import Emulator
from runner.emulator.storage import blobs
from runner.emulator.storage.blobs import CHUNK


@dataclass(slots=True, weakref_slot=True)
class Progress:
    """The written size of a session's file, with the checksums up to there; only in memory."""

    emulator: Emulator
    written: int = 0
    crc32c: int = 0
    md5: Any = field(default_factory=lambda: hashlib.md5(usedforsecurity=False))
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def add(self, data: bytes) -> None:
        """Count data that has been written after the rest."""
        self.crc32c = google_crc32c.extend(self.crc32c, data)
        self.md5.update(data)
        self.written += len(data)


_known: weakref.WeakValueDictionary[str, Progress] = weakref.WeakValueDictionary()
"""All files in use, by session."""
_lately: OrderedDict[str, Progress] = OrderedDict()
"""Keeps recently used ones in memory. For older sessions, they are computed from the file."""
_KEPT = 2048


async def progress_of(emulator: Emulator, session: str, blob: str, received: int) -> Progress:
    """Return the progress in memory; after a restart, restore it from the disk.

    Args:
        emulator: the session's emulator.
        session: its ID.
        blob: name of its file.
        received: acknowledged bytes of the file.
    """
    known = _known.get(session)
    if known is not None and known.emulator is emulator:
        _keep(session, known)
        return known
    fresh = Progress(emulator)
    if received:
        path = emulator.blobs / blob

        def rebuild() -> None:
            with path.open("rb") as file:
                while fresh.written < received:
                    chunk = file.read(min(CHUNK, received - fresh.written))
                    if not chunk:
                        raise OSError(f"{path} is shorter than what was acknowledged")
                    fresh.add(chunk)

        await to_thread.run_sync(rebuild)
    current = _known.get(session)
    if current is None or current.emulator is not emulator:
        _known[session] = current = fresh
    _keep(session, current)
    return current


def _keep(session: str, progress: Progress) -> None:
    _lately[session] = progress
    _lately.move_to_end(session)
    while len(_lately) > _KEPT:
        _lately.popitem(last=False)


def forget(session: str) -> None:
    """Remove the progress of an ended session."""
    _known.pop(session, None)
    _lately.pop(session, None)


def append(path: Path, data: bytes, progress: Progress) -> None:
    """Write data after the rest; blocks."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        view, at = memoryview(data), progress.written
        while view:
            count = os.pwrite(descriptor, view, at)
            view, at = view[count:], at + count
    finally:
        os.close(descriptor)
    progress.add(data)


def sync(path: Path, size: int | None) -> None:
    """Make a file durable, truncated to `size` bytes if given; blocks."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if size is not None:
            # A crash may have left bytes that were never acknowledged.
            os.ftruncate(descriptor, size)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    blobs.sync_directory(path.parent)
