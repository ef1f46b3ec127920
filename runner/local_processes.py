"""Python processes of this program's own, which run nothing that lies in the directory they are started in."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import subprocess  # so that looking starts fast


def module_command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module of this installation with this interpreter.

    `-P` keeps the current directory off the module path: it may be anyone's, and hold a `json.py`.
    """
    return [interpreter(), "-P", "-m", module, *arguments]


def script_command(script: str, *arguments: str) -> list[str]:
    """Return the command that runs Python code with this interpreter, the current directory off the module path."""
    return [interpreter(), "-P", "-c", script, *arguments]


def interpreter() -> str:
    """Return the interpreter that runs this."""
    return sys.executable


@contextlib.contextmanager
def variables(wanted: Mapping[str, str | None]) -> Iterator[None]:
    """Within, have environment variables set; None takes one away."""
    before = {name: os.environ.get(name) for name in wanted}
    _set(wanted)
    try:
        yield
    finally:
        _set(before)


def _set(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


STOPS = (signal.SIGINT, signal.SIGTERM)
"""What people and systems stop a program with."""


class HandedOn:
    """Hands stops on to a process, so that it ends in order and never runs on alone.

    Those that come before the process is there wait for it. Handle `STOPS` by `stop` before the process is started.

    Args:
        send: the signal that the process gets instead of the one that came.
        told: called after each with how many there have been.
    """

    def __init__(self, *, send: int | None = None, told: Callable[[int], None] | None = None) -> None:
        self.times = 0
        self._send = send
        self._told = told
        self._early: list[int] = []
        self._process: subprocess.Popen[Any] | None = None

    def stop(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        self.times += 1
        if self._process is None:
            self._early.append(self._send or number)
        else:
            self._process.send_signal(self._send or number)
        if self._told is not None:
            self._told(self.times)

    def to(self, process: subprocess.Popen[Any]) -> None:
        """Name the process, which has started."""
        self._process = process
        for number in self._early:
            process.send_signal(number)


@contextlib.contextmanager
def kept_back(numbers: Iterable[signal.Signals]) -> Iterator[None]:
    """Within, have signals wait. A process that is started meanwhile gets its own when it unblocks them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def signals(numbers: Iterable[int], handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Within, have signals handled, in the main thread; in others they cannot be, and stay as they are."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
