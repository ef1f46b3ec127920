"""The service's time, from its responses.

Decisions that cost money use this time, never this machine's clock, which can jump or be wrong by a day. Between two
responses, a clock counts that nobody can set. A single response can be old, for example from a proxy's cache, or wrong;
therefore, the median of the last responses counts. If all of them are wrong, the service's resources contradict them:
no resource was created after now, and a new resource was created just now.
"""

from __future__ import annotations

import datetime
import email.utils
import threading
import time
from collections import deque
from collections.abc import Mapping

from runner import times
from runner.formatting import duration

_HEARD = 9
"""Number of remembered responses."""
_DIFFERENCE_SECONDS = 60.0
"""Maximum difference between the clocks of the service's machines."""
_KEPT_SECONDS = 600.0
"""Seconds for which a created resource counts as evidence."""
_OFF_SECONDS = 120.0
"""Maximum difference of a machine's clock without a warning. Google accepts signed requests with a smaller difference.
Maximum difference of a machine's clock without a warning. Google accepts signed requests with a smaller difference."""
_SURE_SECONDS = 2.0
"""Responses contain whole seconds: smaller differences change nothing, so that the time does not go backward."""


def elapsed() -> float:
    """Return seconds on a clock that nobody can set, and that continues while this machine sleeps."""
    for name in ("CLOCK_BOOTTIME", "CLOCK_MONOTONIC_RAW"):  # Linux; macOS, where the plain clock stops during sleep
        if hasattr(time, name):
            return time.clock_gettime(getattr(time, name))
    return time.monotonic()


def moment_of(headers: Mapping[str, str]) -> float | None:
    """Return the time of a response, in seconds since 1970 by the service's clock; None if it contains none."""
    try:
        made = email.utils.parsedate_to_datetime(headers["date"])
        age = headers.get("age", "")
        # A date without a time zone is in UTC, as HTTP requires.
        made = made.replace(tzinfo=datetime.UTC) if made.tzinfo is None else made
        return made.timestamp() + (float(age) if age.isascii() and age.isdecimal() else 0.0)
    except (KeyError, ValueError, TypeError, OverflowError, IndexError):
        return None


def off(ahead: float | None) -> str:
    """Describe by how many seconds this machine's clock is ahead of the service's; "" for a small difference."""
    if ahead is None or abs(ahead) <= _OFF_SECONDS:
        return ""
    which = "ahead of" if ahead > 0 else "behind"
    return f"this machine's clock is {duration(abs(ahead))} {which} the service's"


def ahead_of(headers: Mapping[str, str]) -> float | None:
    """Return by how many seconds this machine's clock is ahead of a new response; None without a date."""
    moment = moment_of(headers)
    return None if moment is None else time.time() - moment


class ServiceClock:
    """The time of one session's services. Several threads can use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._starts: deque[float] = deque(maxlen=_HEARD)
        """For each response, the service's time when `elapsed` was 0."""
        self._start: float | None = None
        """The time that counts."""
        self._scaled = False
        """Whether this is the clock of an emulator, which runs faster than others."""
        self._newest: tuple[str, float] = ("", 0.0)
        """Creation time of the newest resource, and when it was received on `elapsed`."""
        self._just_made: tuple[str, float] = ("", 0.0)
        """The same for resources of this session, and when it requested them."""

    def hear(self, headers: Mapping[str, str]) -> None:
        """Record the time of a response."""
        moment = moment_of(headers)
        if moment is not None:
            with self._lock:
                self._scaled = "x-emulator-time-scale" in headers
                self._starts.append(moment - elapsed())
                median = sorted(self._starts)[(len(self._starts) - 1) // 2]
                if self._start is None or abs(median - self._start) > _SURE_SECONDS:
                    self._start = median

    def now(self) -> float | None:
        """Return seconds since 1970 by the service's clock; None if no response contained a time."""
        start = self._start
        return None if start is None else start + elapsed()

    def hear_made(self, made: str, asked: float | None = None) -> None:
        """Record the creation time of a resource; `asked` is when this session requested its creation, on `elapsed`."""
        if made.startswith("20"):
            before, heard = self._newest
            if made >= before or elapsed() - heard > _KEPT_SECONDS:
                self._newest = made, elapsed()
            if asked is not None:
                self._just_made = made, asked

    def doubt(self) -> str:
        """Describe what contradicts `now`; "" if nothing does."""
        now, passed = self.now(), elapsed()
        if now is None or self._scaled:
            return ""
        for (made, since), sign in ((self._newest, 1), (self._just_made, -1)):
            moment = times.seconds_of(made)
            if moment is None or passed - since > _KEPT_SECONDS:
                continue
            if sign * (moment + passed - since - now) > _DIFFERENCE_SECONDS:
                return f"the service created something at {made}, and reports the time {times.to_seconds(now)} now"
        return ""

    def ahead(self) -> float | None:
        """Return by how many seconds this machine's clock is ahead of the service's.

        None if this is unknown, or if the service is an emulator whose clock runs faster.
        """
        now = self.now()
        return None if now is None or self._scaled else time.time() - now
