"""Distributes the ranges of a file to threads or processes.

The compiled scanner lets other threads run while it reads. If it is installed, threads share a file, because they start
in no time. If Python reads or a tokenizer is used, processes do. They are plain child processes that exchange pickles
over pipes. A program that uses this library therefore needs no `if __name__ == "__main__"`, and is not forked together
with its threads and locks.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from runner.datasets.checking.ranges import Settings, totals_of_range
from runner.datasets.checking.totals import Totals
from runner.datasets.limited_processes import LimitedProcesses, answer_requests
from runner.datasets.reading import native
from runner.errors import RunnerError

PARALLEL_BYTES = 128 << 20
"""Minimum file size for starting processes: each takes a seventh of a second before it reads."""
_RANGE_BYTES = 32 << 20


def worker_count(size: int, wanted: int | None = None) -> int:
    """Return how many processes a file of this size (in bytes) justifies; 1 means only this process."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if wanted is not None:
        return max(1, wanted)
    return available if size >= PARALLEL_BYTES else 1


def split(size: int, workers: int) -> list[tuple[int, int]]:
    """Return ranges that cover `size` bytes: enough so that no worker waits long for the last one.

    There are no more, because adding one up takes as long as reading some megabytes, and blocks Python meanwhile.
    """
    count = max(workers, min(3 * workers, size // _RANGE_BYTES), size // (256 << 20)) if workers > 1 else 1
    step = -(-size // count) if size else 1
    return [(start, min(start + step, size)) for start in range(0, size, step)] or [(0, 0)]


def totals_of_file(
    path: Path, settings: Settings, *, workers: int | None = None, progress: Callable[[int], None] | None = None
) -> Totals:
    """Return the totals of a whole file, from this process or several.

    Args:
        path: plain JSONL file.
        settings: what to check for.
        workers: number of threads or processes; by default one per core, and one for a small file.
        progress: called with the number of bytes read since the last call.
    """
    size = path.stat().st_size
    count = worker_count(size, workers)
    if count == 1:
        return totals_of_range(path, 0, size, settings, progress=progress)
    whole, ranges = Totals(), split(size, count)
    threads = settings.compiled and native.is_installed() and settings.tokenizer is None
    processes = None if threads else LimitedProcesses("runner.datasets.checking.workers", count)
    read = totals_of_range if processes is None else partial(_totals_elsewhere, processes)
    with ThreadPoolExecutor(count, "check") as pool:
        parts = [pool.submit(read, path, start, end, settings) for start, end in ranges]
        try:
            for part, (start, end) in zip(parts, ranges, strict=True):
                whole.add(part.result())
                if progress is not None:
                    progress(end - start)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # the other results are not needed
            if processes is not None:
                processes.close()
    return whole


def _totals_elsewhere(processes: LimitedProcesses, path: Path, start: int, end: int, settings: Settings) -> Totals:
    """Return the totals of a range from a process. Raises the process's exception, or RunnerError if it dies."""
    answer = processes.ask(pickle.dumps((path, start, end, settings)))
    if answer is None:
        hint = "free some memory, or check with one process (--workers 1)"
        raise RunnerError(f"a worker process died while checking {path.name}", hint=hint)
    # The data always comes from our own child process, over a pipe that no other process has.
    found: Totals | Exception = pickle.loads(answer)  # noqa: S301
    if isinstance(found, Exception):
        raise found
    return found


def _answer(request: bytes) -> bytes:
    try:
        answer: Any = totals_of_range(*pickle.loads(request))  # noqa: S301 - of our own parent
    except Exception as error:
        # The parent raises any exception again, where the caller can see it.
        answer = error if isinstance(error, (RunnerError, OSError)) else RunnerError(f"{error!r} in a worker")
    return pickle.dumps(answer, protocol=pickle.HIGHEST_PROTOCOL)


if __name__ == "__main__":
    answer_requests(_answer)
