"""Share the ranges of a file among threads or processes.

The compiled scanner lets other threads run while it reads: where it is installed, threads share a file, for they start
in no time. Where Python reads, or a tokenizer is asked, processes do. They are plain children of this one that speak
pickle over their pipes, so that a program that uses this library needs no `if __name__ == "__main__"` and is not forked
with its threads and locks.
"""

from __future__ import annotations

import os
import pickle
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, BinaryIO

from runner.datasets.checking.ranges import Settings, totals_of_range
from runner.datasets.checking.totals import Totals
from runner.datasets.reading import native
from runner.errors import RunnerError
from runner.local_processes import module_command

PARALLEL_BYTES = 128 << 20
"""Smaller files are not worth starting processes for: each takes a seventh of a second before it reads."""
_RANGE_BYTES = 32 << 20

MALLOC = {"MALLOC_TRIM_THRESHOLD_": str(64 << 20), "MALLOC_MMAP_THRESHOLD_": str(32 << 20)}
"""Environment of the processes: glibc keeps the memory of one block for the next instead of giving it back.

Measured: a tenth more speed with texts, a half more with images, for half a megabyte.
"""


def worker_count(size: int, wanted: int | None = None) -> int:
    """Return how many processes a file of a size (bytes) is worth; 1 means this one."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if wanted is not None:
        return max(1, wanted)
    return available if size >= PARALLEL_BYTES else 1


def split(size: int, workers: int) -> list[tuple[int, int]]:
    """Return ranges that cover `size` bytes: enough of them that no worker waits long for the last one."""
    count = max(workers, min(4 * workers, size // _RANGE_BYTES), size // (256 << 20)) if workers > 1 else 1
    step = -(-size // count) if size else 1
    return [(start, min(start + step, size)) for start in range(0, size, step)] or [(0, 0)]


def totals_of_file(
    path: Path, settings: Settings, *, workers: int | None = None, progress: Callable[[int], None] | None = None
) -> Totals:
    """Return the totals of a whole file, in this process or by several.

    Args:
        path: plain JSONL file.
        settings: what to check for.
        workers: threads or processes; by default as many as there are cores, and one for a small file.
        progress: called with the bytes done since the last call.
    """
    size = path.stat().st_size
    count = worker_count(size, workers)
    if count == 1:
        return totals_of_range(path, 0, size, settings, progress=progress)
    whole = Totals()
    threads = settings.compiled and native.is_installed() and settings.tokenizer is None
    share = _among_threads if threads else _among_processes
    for part in share(path, split(size, count), settings, count, progress):
        whole.add(part)
    return whole


def _among_threads(
    path: Path, ranges: list[tuple[int, int]], settings: Settings, count: int, progress: Callable[[int], None] | None
) -> Iterator[Totals]:
    """Yield the totals of ranges in their order."""
    with ThreadPoolExecutor(count, "check") as pool:
        parts = [pool.submit(totals_of_range, path, start, end, settings) for start, end in ranges]
        try:
            for part, (start, end) in zip(parts, ranges, strict=True):
                yield part.result()
                if progress is not None:
                    progress(end - start)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # nobody needs the rest


def _among_processes(
    path: Path, ranges: list[tuple[int, int]], settings: Settings, count: int, progress: Callable[[int], None] | None
) -> Iterator[Totals]:
    """Yield the totals of ranges in their order, each as soon as all before it are there."""
    import subprocess  # not needed by the worker processes

    waiting: SimpleQueue[int] = SimpleQueue()
    for index in range(len(ranges)):
        waiting.put(index)
    finished: SimpleQueue[tuple[int, Any]] = SimpleQueue()

    def drive() -> None:
        command = module_command("runner.datasets.checking.workers")
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**MALLOC, **os.environ}
        ) as process:
            while (index := _next(waiting)) is not None:
                try:
                    _send(process.stdin, (path, *ranges[index], settings))
                    finished.put((index, _receive(process.stdout)))
                except (OSError, EOFError) as error:
                    finished.put((index, RunnerError(f"a worker process died while checking {path.name}: {error}")))
                    return

    for _ in range(min(count, len(ranges))):
        threading.Thread(target=drive, daemon=True).start()
    early: dict[int, Any] = {}
    for index in range(len(ranges)):
        while index not in early:
            done, result = finished.get()
            early[done] = result
            if isinstance(result, Exception):
                while _next(waiting) is not None:
                    pass  # nobody needs the rest
                raise result
            if progress is not None:
                progress(ranges[done][1] - ranges[done][0])
        yield early.pop(index)


def _next(waiting: SimpleQueue[int]) -> int | None:
    try:
        return waiting.get_nowait()
    except Empty:
        return None


def _send(stream: BinaryIO | Any, value: Any) -> None:
    data = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    stream.write(struct.pack(">Q", len(data)) + data)
    stream.flush()


def _receive(stream: BinaryIO | Any) -> Any:
    head = stream.read(8)
    if len(head) < 8:
        raise EOFError("its pipe closed")
    # Only ever from our own child or parent, over a pipe that nobody else has.
    return pickle.loads(stream.read(struct.unpack(">Q", head)[0]))  # noqa: S301


def main() -> None:
    """Answer requests on standard input until it closes."""
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not get between the answers
    while True:
        try:
            path, start, end, settings = _receive(sys.stdin.buffer)
        except EOFError:
            return
        try:
            answer: Any = totals_of_range(path, start, end, settings)
        except Exception as error:
            # Whatever it is, the parent raises it where the caller can see it.
            answer = error if isinstance(error, (RunnerError, OSError)) else RunnerError(f"{error!r} in a worker")
        _send(output, answer)


if __name__ == "__main__":
    main()
