"""Start Python processes of this program that run nothing from the current directory."""

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
    import subprocess  # so that read-only commands start fast


def module_command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module of this installation with this interpreter.

    `-P` removes the current directory from the module path, because it may contain files from others, such as
    `json.py`.
    """
    return [interpreter(), "-P", "-m", module, *arguments]


def script_command(script: str, *arguments: str) -> list[str]:
    """Return the command that runs Python code with this interpreter, ignoring the current directory."""
    return [interpreter(), "-P", "-c", script, *arguments]


def interpreter() -> str:
    """Return the path of this interpreter."""
    return sys.executable


@contextlib.contextmanager
def variables(wanted: Mapping[str, str | None]) -> Iterator[None]:
    """Set environment variables within the context; None removes one."""
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
"""Signals with which people and systems stop a program."""


class HandedOn:
    """Forwards stop signals to a process, so that it ends properly and never continues without this process.

    Signals that arrive before the process has started are sent when it has. Call `stop` for `STOPS` before you start
    the process.

    Args:
        send: the signal that the process gets, regardless of the received one.
        told: called after each signal with the number of signals.
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
        """Set the process, which has started."""
        self._process = process
        for number in self._early:
            process.send_signal(number)


@contextlib.contextmanager
def kept_back(numbers: Iterable[signal.Signals]) -> Iterator[None]:
    """Delay signals within the context. A process that is started meanwhile gets its own when it unblocks them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def signals(numbers: Iterable[int], handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Handle signals within the context in the main thread; in other threads, they remain unchanged."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
