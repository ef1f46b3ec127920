"""Work on what may be hostile, in a process of its own under limits of memory and time."""

from __future__ import annotations

import contextlib
import os
import queue
import struct
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from runner.local_processes import module_command


class LimitedProcess:
    """A process that answers requests, each within its limits; started when it is needed, and anew when it has died.

    Args:
        module: calls `answer_requests` when it is run.
        variables: of its environment, where this process has none of that name.
    """

    def __init__(self, module: str, variables: Mapping[str, str] | None = None) -> None:
        self._command = module_command(module)
        self._variables = variables or {}
        self.process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._end: Callable[[], Any] = lambda: None

    def ask(self, request: bytes) -> bytes | None:
        """Return the answer to a request; None where it takes more memory or time than the limits allow."""
        with self._lock:
            used = self.process is not None
            answer = self._ask(request)
            # One that has answered others may have died of what they left behind.
            return self._ask(request) if answer is None and used else answer

    def close(self) -> None:
        """End the process."""
        self._end()
        self.process = None

    def _ask(self, request: bytes) -> bytes | None:
        if self.process is None:
            environment = {**self._variables, **os.environ}
            self.process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
            )
            self._end = weakref.finalize(self, _ended, self.process)
        try:
            _send(self.process.stdin, request)
            return _receive(self.process.stdout)
        except (OSError, EOFError):
            self.close()
            return None


class LimitedProcesses:
    """Several of them, so that a request that takes all of its time holds up no other.

    Args:
        module: calls `answer_requests` when it is run.
        count: how many requests are answered at once.
        variables: see `LimitedProcess`.
    """

    def __init__(self, module: str, count: int = 1, variables: Mapping[str, str] | None = None) -> None:
        self._idle: queue.LifoQueue[LimitedProcess] = queue.LifoQueue()
        for _ in range(count):
            self._idle.put(LimitedProcess(module, variables))

    def ask(self, request: bytes) -> bytes | None:
        """Return the answer to a request; None where it takes more memory or time than the limits allow."""
        process = self._idle.get()
        try:
            return process.ask(request)
        finally:
            self._idle.put(process)


def _ended(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    with contextlib.suppress(OSError, ValueError):  # what was not sent is lost
        process.communicate()


def answer_requests(answer: Callable[[bytes], bytes], *, memory: int | None = None, seconds: int | None = None) -> None:
    """Answer requests on standard input until it closes, or one takes too much.

    Args:
        answer: returns the answer to a request.
        memory: bytes of address space of this process; None: there is no limit.
        seconds: processor time of one request, likewise.
    """
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not get between the answers
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
    stream.write(struct.pack(">Q", len(data)))
    stream.write(data)
    stream.flush()


def _receive(stream: BinaryIO | Any) -> bytes:
    head = stream.read(8)
    if len(head) < 8:
        raise EOFError("the pipe closed")
    (size,) = struct.unpack(">Q", head)
    data: bytes = stream.read(size)
    if len(data) < size:
        raise EOFError("the pipe closed within a message")
    return data
