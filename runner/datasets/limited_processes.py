"""Processes untrusted data in separate processes with limits of memory and time."""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import sys
import weakref
from collections.abc import Callable
from typing import Any, BinaryIO

from runner.local_processes import module_command


class LimitedProcesses:
    """Processes that answer requests within limits. They are started when needed, and restarted if they have died.

    Args:
        module: calls `answer_requests` when it is run.
        count: number of simultaneous requests, so that a slow request does not delay the others.
    """

    def __init__(self, module: str, count: int = 1) -> None:
        self._command = module_command(module)
        self._idle: queue.LifoQueue[subprocess.Popen[bytes] | None] = queue.LifoQueue()
        for _ in range(count):
            self._idle.put(None)
        self._ends: dict[subprocess.Popen[bytes], Callable[[], Any]] = {}
        self._closed = False

    @property
    def running(self) -> list[subprocess.Popen[bytes]]:
        """Return the processes."""
        return list(self._ends)

    def ask(self, request: bytes) -> bytes | None:
        """Return the answer to a request; None if it would exceed the limits, or the processes are closed."""
        process = self._idle.get()
        try:
            answer = self._answer(process, request) if process is not None else None
            if answer is None and not self._closed:  # perhaps it died of an earlier request
                process = self._start()
                answer = self._answer(process, request)
            return answer
        finally:
            self._idle.put(process if process in self._ends else None)

    def close(self) -> None:
        """End the processes and their requests; no others are started."""
        self._closed = True
        for process in self.running:
            self._ends.pop(process, lambda: None)()

    def _start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._ends[process] = weakref.finalize(self, _ended, process)
        if self._closed:  # closed after the decision to start one
            self.close()
        return process

    def _answer(self, process: subprocess.Popen[bytes], request: bytes) -> bytes | None:
        try:
            _send(process.stdin, request)
            return _receive(process.stdout)
        except (OSError, EOFError, ValueError):  # the pipe was closed by `close`
            self._ends.pop(process, lambda: None)()
            return None


def _ended(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    with contextlib.suppress(OSError, ValueError):  # unsent data is lost
        process.communicate()


def answer_requests(answer: Callable[[bytes], bytes], *, memory: int | None = None, seconds: int | None = None) -> None:
    """Answer requests on standard input until it closes, or a request exceeds the limits.

    Args:
        answer: returns the answer to a request.
        memory: maximum address space of this process in bytes; None means no limit.
        seconds: maximum processor time of one request; None means no limit.
    """
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # output of a library must not get between the answers
    if memory is not None:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    with contextlib.suppress(EOFError, MemoryError, BrokenPipeError):
        while True:
            request = _receive(sys.stdin.buffer)
            if seconds is not None:
                import resource

                used = resource.getrusage(resource.RUSAGE_SELF)
                limit = int(used.ru_utime + used.ru_stime) + seconds
                resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
            _send(output, answer(request))


def _send(stream: BinaryIO | Any, data: bytes) -> None:
    stream.write(len(data).to_bytes(8, "big"))
    stream.write(data)
    stream.flush()


def _receive(stream: BinaryIO | Any) -> bytes:
    head = stream.read(8)
    size = int.from_bytes(head, "big")
    data: bytes = stream.read(size) if len(head) == 8 else b""
    if len(head) < 8 or len(data) < size:
        raise EOFError("the pipe closed")
    return data
