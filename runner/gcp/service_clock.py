"""The service's time, as its answers tell it.

What costs money is decided by it and never by this machine's clock, which may be a day off and jumps. Between two
answers a clock counts that nobody sets. A single answer may be old, kept by a proxy perhaps, or wrong: the median of
the last ones counts.
"""

from __future__ import annotations

import datetime
import email.utils
import threading
import time
from collections import deque
from collections.abc import Mapping

_HEARD = 9
"""So many answers are remembered."""
_SURE_SECONDS = 2.0
"""Answers tell whole seconds: what differs by less changes nothing, so that the time does not go back."""


def elapsed() -> float:
    """Return seconds that pass while this machine sleeps, too, and that nobody sets."""
    for name in ("CLOCK_BOOTTIME", "CLOCK_MONOTONIC_RAW"):  # Linux; macOS, where the plain one stops during sleep
        if hasattr(time, name):
            return time.clock_gettime(getattr(time, name))
    return time.monotonic()


def moment_of(headers: Mapping[str, str]) -> float | None:
    """Return when an answer was made, in seconds since 1970 by the service's clock; None where it does not say."""
    try:
        made = email.utils.parsedate_to_datetime(headers["date"])
        age = headers.get("age", "")
        # A date without a zone is in UTC, as HTTP wants it.
        made = made.replace(tzinfo=datetime.UTC) if made.tzinfo is None else made
        return made.timestamp() + (float(age) if age.isascii() and age.isdecimal() else 0.0)
    except (KeyError, ValueError, TypeError, OverflowError, IndexError):
        return None


class ServiceClock:
    """The time of one session's services. It may be used from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._starts: deque[float] = deque(maxlen=_HEARD)
        """What each answer says that the service's clock showed when `elapsed` was 0."""
        self._start: float | None = None
        """What counts."""
        self._scaled = False
        """Whether this is an emulator's clock that runs faster than others."""

    def hear(self, headers: Mapping[str, str]) -> None:
        """Take note of an answer's time."""
        moment = moment_of(headers)
        if moment is not None:
            with self._lock:
                self._scaled = "x-emulator-time-scale" in headers
                self._starts.append(moment - elapsed())
                median = sorted(self._starts)[(len(self._starts) - 1) // 2]
                if self._start is None or abs(median - self._start) > _SURE_SECONDS:
                    self._start = median

    def now(self) -> float | None:
        """Return seconds since 1970 by the service's clock; None where no answer has told it."""
        start = self._start
        return None if start is None else start + elapsed()

    def ahead(self) -> float | None:
        """Return by how many seconds this machine's clock is ahead of the service's.

        None where that is unknown, and where the service is an emulator whose clock runs faster.
        """
        now = self.now()
        return None if now is None or self._scaled else time.time() - now
