"""The service's time, as its answers tell it.

What costs money is decided by it and never by this machine's clock, which may be a day off and jumps. Between two
answers a clock counts that nobody sets. A single answer may be old, kept by a proxy perhaps, or wrong: the median of
the last ones counts. Where all are, what the service has made contradicts them: nothing was made after now, and what
was just made was made just now.
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
"""So many answers are remembered."""
_DIFFERENCE_SECONDS = 60.0
"""How far the clocks of the service's machines may differ."""
_KEPT_SECONDS = 600.0
"""What was made counts for so long as evidence."""
_OFF_SECONDS = 120.0
"""By so much a clock of a machine may be off without a word. Google takes a signed request that is off by less."""
_SURE_SECONDS = 2.0
"""Answers tell whole seconds: what differs by less changes nothing, so that the time does not go back."""


def elapsed() -> float:
    """Return seconds that pass while this machine sleeps, too, and that nobody sets."""
    for name in ("CLOCK_BOOTTIME", "CLOCK_MONOTONIC_RAW"):  # Linux; macOS, where the plain one stops during sleep
        if hasattr(time, name):
            return time.clock_gettime(getattr(time, name))
    return time.monotonic()


def moment_of(headers: Mapping[str, str]) -> float | None:
    """Return when an answer was made, in seconds since 1970 by the service's clock; None if it does not say."""
    try:
        made = email.utils.parsedate_to_datetime(headers["date"])
        age = headers.get("age", "")
        # A date without a zone is in UTC, as HTTP wants it.
        made = made.replace(tzinfo=datetime.UTC) if made.tzinfo is None else made
        return made.timestamp() + (float(age) if age.isascii() and age.isdecimal() else 0.0)
    except (KeyError, ValueError, TypeError, OverflowError, IndexError):
        return None


def off(ahead: float | None) -> str:
    """Return in words by how many seconds this machine's clock is ahead of the service's; "" if it hardly is."""
    if ahead is None or abs(ahead) <= _OFF_SECONDS:
        return ""
    which = "ahead of" if ahead > 0 else "behind"
    return f"this machine's clock is {duration(abs(ahead))} {which} the service's"


def ahead_of(headers: Mapping[str, str]) -> float | None:
    """Return by how many seconds this machine's clock is ahead of an answer that has just come; None without a date."""
    moment = moment_of(headers)
    return None if moment is None else time.time() - moment


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
        self._newest: tuple[str, float] = ("", 0.0)
        """When what was made last was made, and when that was heard on `elapsed`."""
        self._just_made: tuple[str, float] = ("", 0.0)
        """The same of what this session made, and when it asked for that."""

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
        """Return seconds since 1970 by the service's clock; None if no answer has told it."""
        start = self._start
        return None if start is None else start + elapsed()

    def hear_made(self, made: str, asked: float | None = None) -> None:
        """Take note of when something was made; `asked` is when this session asked for its making, on `elapsed`."""
        if made.startswith("20"):
            before, heard = self._newest
            if made >= before or elapsed() - heard > _KEPT_SECONDS:
                self._newest = made, elapsed()
            if asked is not None:
                self._just_made = made, asked

    def doubt(self) -> str:
        """Return what contradicts `now`, in words; "" if nothing does."""
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

        None if that is unknown, and where the service is an emulator whose clock runs faster.
        """
        now = self.now()
        return None if now is None or self._scaled else time.time() - now
