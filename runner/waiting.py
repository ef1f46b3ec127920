"""Messages about waits of this process, for example for a response or a lock."""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

TELL_SECONDS = 10.0
"""Seconds after which a wait is reported, and reported again."""


def silent(line: str) -> None:
    """Ignore a line."""


class _Wait:
    __slots__ = ("number", "since", "told", "what")

    def __init__(self, what: str) -> None:
        self.what = what

    def __enter__(self) -> None:
        self.number, self.since = next(_numbers), time.monotonic()
        self.told = self.since
        _waits[self.number] = self

    def __exit__(self, *_: object) -> None:
        del _waits[self.number]


_waits: dict[int, _Wait] = {}
"""Changed by single operations of the interpreter, which need no lock."""
_numbers = itertools.count()


def waiting(what: str) -> AbstractContextManager[None]:
    """Mark the time within the context as a wait for `what`."""
    return _Wait(what)  # a generator would double the time of each request


def looks(
    first: float, longest: float, *, factor: float = 2.0, within: float = math.inf, what: str = ""
) -> Iterator[float]:
    """Yield the elapsed seconds for each poll: 0, and then after each pause.

    Args:
        first: the first pause, in seconds.
        longest: the maximum pause, in seconds.
        factor: the growth of the pauses.
        within: seconds after which no pause ends.
        what: describes what is waited for; see `waiting`. "" for a short wait.
    """
    start, pause = time.monotonic(), min(first, longest)
    yield 0.0
    while time.monotonic() - start + pause <= within:
        with waiting(what) if what else nullcontext():
            time.sleep(pause)
        yield time.monotonic() - start
        pause = min(longest, pause * factor)


@contextmanager
def told(tell: Callable[[str], None]) -> Iterator[None]:
    """Within the context, call `tell` with a line when this process has waited for long; it runs in another thread."""
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(TELL_SECONDS / 10):
            now = time.monotonic()
            late = [wait for wait in list(_waits.values()) if now - wait.told >= TELL_SECONDS]
            for wait in late:
                wait.told = now
            if late:
                oldest = min(late, key=lambda wait: wait.since)
                tell(f"still waiting for {oldest.what}, since {now - oldest.since:.0f} s")

    thread = threading.Thread(target=look, name="waiting", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(1.0)
