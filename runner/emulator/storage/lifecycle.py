"""Background work of Storage: deletes leftovers of crashes, and expired objects and uploads."""

from __future__ import annotations

import asyncio
import logging
import sqlite3

from anyio import to_thread

from runner.emulator.context import Emulator
from runner.emulator.storage import blobs, objects, records

logger = logging.getLogger(__name__)

_SWEEP_SECONDS = 600.0
UPLOAD_LIFETIME = 7 * 86400 * 1_000_000
"""Maximum microseconds of an upload (https://cloud.google.com/storage/docs/resumable-uploads: one week)."""

_sweepers: set[asyncio.Task[None]] = set()


async def start(emulator: Emulator) -> None:
    """Collect garbage, then sweep repeatedly until the event loop ends."""
    await sweep(emulator)
    await to_thread.run_sync(collect_garbage, emulator)
    task = asyncio.create_task(_sweep_forever(emulator), name="storage-sweeper")
    _sweepers.add(task)
    task.add_done_callback(_sweepers.discard)


async def _sweep_forever(emulator: Emulator) -> None:
    while True:
        await asyncio.sleep(_SWEEP_SECONDS)
        try:
            await sweep(emulator)
        except Exception:
            logger.exception("the storage sweeper failed; it tries again later")


def collect_garbage(emulator: Emulator) -> int:
    """Delete the files that no row names; return their number.

    Only while no request is running, because an upload in progress has a file before it has a row.
    """
    doomed = emulator.store.read(
        lambda connection: [
            path.name for path in emulator.blobs.iterdir() if not objects.is_referenced(connection, path.name)
        ]
    )
    blobs.unlink(emulator, doomed)
    return len(doomed)


async def sweep(emulator: Emulator) -> None:
    """Delete expired soft-deleted objects and uploads."""
    now = records.microseconds(emulator.clock.now())

    def expire(connection: sqlite3.Connection) -> list[str]:
        doomed = objects.purge(connection, records.select(connection, "expires <= ?", (now,)))
        stale = connection.execute(
            "SELECT id, blob FROM storage_uploads WHERE created <= ?", (now - UPLOAD_LIFETIME,)
        ).fetchall()
        for upload, blob in stale:
            parts = connection.execute("DELETE FROM storage_parts WHERE upload = ? RETURNING blob", (upload,))
            files = [blob, *(row[0] for row in parts.fetchall())]
            connection.execute("DELETE FROM storage_uploads WHERE id = ?", (upload,))
            doomed += [name for name in files if not objects.is_referenced(connection, name)]
        return doomed

    blobs.unlink(emulator, await emulator.store.write(expire))
