"""Verified concurrent uploads of many files."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from runner.gcp.session import Session
from runner.gcp.uploads import Progress, Sent, upload_file

THREADS = 32
"""Number of concurrent uploads. For small objects, most of the time is spent waiting for responses: about 30 ms each.
Number of concurrent uploads. For small objects, most of the time is spent waiting for responses: about 30 ms each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One file to upload."""

    path: Path
    uri: str
    content_type: str = "application/octet-stream"
    size: int = 0
    """Bytes, for the progress."""
    crc32c: str = ""
    """See `upload_file`."""


def upload_many(
    session: Session,
    items: Iterable[Item],
    *,
    threads: int = THREADS,
    total: int = 0,
    progress: Progress | None = None,
) -> Iterator[Sent]:
    """Upload files concurrently and yield each when it is complete, in any order.

    The number of threads limits the memory, because items are read when they are needed.

    Args:
        session: the connection.
        items: the files.
        threads: number of concurrent uploads.
        total: bytes of all items, for the progress.
        progress: called with the number of uploaded bytes and `total`.

    Raises:
        The errors of `upload_file`.
    """
    done = running = 0
    more = iter(items)
    lock = threading.Lock()
    results: SimpleQueue[Sent | BaseException | None] = SimpleQueue()
    stopped = threading.Event()

    def following() -> Item | None:
        with lock:
            return None if stopped.is_set() else next(more, None)

    def work() -> None:
        try:
            while (item := following()) is not None:
                sent = upload_file(session, item.path, item.uri, content_type=item.content_type, crc32c=item.crc32c)
                results.put(sent)
        except BaseException as error:
            # Every error is raised where the caller can handle it.
            results.put(error)
        finally:
            results.put(None)

    workers = [threading.Thread(target=work, name="upload") for _ in range(threads)]
    try:
        for worker in workers:
            worker.start()
            running += 1
        while running:
            result = results.get()
            if result is None:
                running -= 1
                continue
            if isinstance(result, BaseException):
                raise result
            done += result.info.size
            if progress:
                progress(min(done, total), total)
            yield result
    finally:
        stopped.set()
        for worker in workers:
            if worker.ident is not None:
                worker.join()
