"""The emulator's clock, injected so that no test waits on the real one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime


class Clock:
    """Tells the time of day. `read` may be replaced by a test; the default is the system's clock."""

    def __init__(self, read: Callable[[], datetime] | None = None) -> None:
        self._read = read or (lambda: datetime.now(UTC))

    def now(self) -> datetime:
        """Return the time, aware, in UTC."""
        return self._read()

    def timestamp(self) -> str:
        """Return RFC 3339 with microseconds and `Z`, as Google's JSON prints it."""
        return self.now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
