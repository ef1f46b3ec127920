"""The service's data, requested no more often than by one client, regardless of the number of pages.

Every value is cached for a while. A request for an old value waits a moment for a new one. If the service is slow or
unavailable, the last known value is returned, with the error and its age.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from concurrent.futures import TimeoutError as NotYetError
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from runner.errors import GoogleApiError, RunnerError, UnreachableError
from runner.gcp.session import Session

Value = TypeVar("Value")
SHORTEST_SECONDS = 2.0
LONGEST_SECONDS = 30.0
_SHARE = 20.0
"""A value is cached for this multiple of the time that it took to get it."""
PATIENCE_SECONDS = 20.0
"""Maximum wait for a value that was never read, and for all values of a page together."""
GLANCE_SECONDS = 1.0
"""Maximum wait for a newer value."""


CLOSING_SECONDS = 5.0
"""Maximum wait for running requests at the end of the console, whose connection would otherwise stay open."""


@dataclass(frozen=True, slots=True)
class Reading(Generic[Value]):
    """A value with its age and error."""

    value: Value
    seen: float
    """Time of the value, in seconds since 1970."""
    problem: str = ""
    """Why there is no newer value."""


class StillReadingError(UnreachableError):
    """There is neither a value nor an error yet."""


@dataclass(slots=True)
class _Entry:
    lock: threading.Lock = field(default_factory=threading.Lock)
    reading: Reading[Any] | None = None
    error: RunnerError | None = None
    due: float = 0.0
    """On the monotonic clock."""
    loading: Future[None] | None = None


class Observer:
    """Reads data with one connection."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._pool = ThreadPoolExecutor(8, thread_name_prefix="console-read")
        self._lock = threading.Lock()
        self._entries: dict[Hashable, _Entry] = {}
        self._kept: dict[Hashable, Any] = {}
        self._page = threading.local()

    def close(self) -> None:
        """Stop reading; running requests can still end for a moment."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            under_way = [entry.loading for entry in self._entries.values() if entry.loading is not None]
        wait(under_way, CLOSING_SECONDS)

    @contextmanager
    def page(self, seconds: float = PATIENCE_SECONDS) -> Iterator[None]:
        """Limit the total wait of this thread's reads in the context."""
        self._page.until = time.monotonic() + seconds
        try:
            yield
        finally:
            del self._page.until

    def read(
        self, key: Hashable, load: Callable[[], Value], *, keep: float | None = None, patience: float = PATIENCE_SECONDS
    ) -> Reading[Value]:
        """Return a value of the service.

        Args:
            key: identifies the value.
            load: requests the value.
            keep: seconds until it is requested again; None derives them from the duration of the request.
            patience: seconds to wait for a first value.

        Raises:
            StillReadingError: there is no value yet.
            RunnerError: there never was a value, and there is none now.
        """
        entry = self._entry(key)
        with entry.lock:
            if entry.loading is None and time.monotonic() >= entry.due:
                entry.loading = self._pool.submit(self._load, entry, load, keep)
            loading, known = entry.loading, entry.reading
        patience = max(0.0, min(patience, getattr(self._page, "until", math.inf) - time.monotonic()))
        slow = False
        if loading is not None:
            try:
                loading.result(patience if known is None else min(patience, GLANCE_SECONDS))
            except NotYetError:
                slow = True
        with entry.lock:
            if entry.reading is None:
                if slow or entry.error is None:
                    raise StillReadingError("the service has not answered yet", hint="reload the page")
                raise entry.error
            reading: Reading[Value] = entry.reading
            if slow and not reading.problem and time.time() - reading.seen > LONGEST_SECONDS:
                return Reading(reading.value, reading.seen, "the service has not answered yet")
            return reading

    def glance(self, key: Hashable, load: Callable[[], Value], *, keep: float | None = None) -> Value | None:
        """Return the known value, and start to read it if there is none; never waits, never raises."""
        entry = self._entry(key)
        with entry.lock:
            if entry.loading is None and time.monotonic() >= entry.due:
                entry.loading = self._pool.submit(self._load, entry, load, keep)
            value: Value | None = entry.reading.value if entry.reading else None
            return value

    def known(self, key: Hashable) -> Any:
        """Return the last value; None if there was none."""
        entry = self._entry(key)
        with entry.lock:
            return entry.reading.value if entry.reading else None

    def kept(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """Return a value that lives as long as the observer, created when it is first requested."""
        with self._lock:
            found: Value = self._kept.setdefault(key, None) or make()
            self._kept[key] = found
            return found

    def forget(self) -> None:
        """Read everything again, because something was changed."""
        with self._lock:
            for entry in self._entries.values():
                entry.due = min(entry.due, time.monotonic())

    def _entry(self, key: Hashable) -> _Entry:
        with self._lock:
            return self._entries.setdefault(key, _Entry())

    def _load(self, entry: _Entry, load: Callable[[], Any], keep: float | None) -> None:
        start = time.monotonic()
        try:
            value = load()
        except RunnerError as error:
            if isinstance(error, GoogleApiError) and error.http == 401:
                self.session.renew()
            with entry.lock:
                entry.error = error
                if entry.reading is not None:
                    entry.reading = Reading(entry.reading.value, entry.reading.seen, error.message)
                entry.due = time.monotonic() + SHORTEST_SECONDS
                entry.loading = None
            return
        except BaseException:
            with entry.lock:
                entry.loading = None
            raise
        now = time.monotonic()
        if keep is None:
            keep = min(LONGEST_SECONDS, max(SHORTEST_SECONDS, _SHARE * (now - start)))
        with entry.lock:
            entry.reading, entry.error = Reading(value, time.time()), None
            entry.due = now + keep
            entry.loading = None
