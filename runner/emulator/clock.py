"""The emulator's clock, injected so that no test waits for the real one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from runner.emulator import store as documents
from runner.emulator.store import Store


class Clock:
    """A clock.

    Args:
        read: a test can replace it; the default is the system's clock.
        scale: how many times faster than `read` it runs.
        since: when this speed started; with a time zone.
    """

    def __init__(
        self, read: Callable[[], datetime] | None = None, *, scale: float = 1.0, since: datetime | None = None
    ) -> None:
        self._read = read or (lambda: datetime.now(UTC))
        self.scale = scale
        self._since = since or self._read()

    def now(self) -> datetime:
        """Return the time in UTC, with a time zone."""
        return self._compressed(self._read())

    def of_clients(self) -> datetime:
        """Return the time on clients' clocks, regardless of the speed of this one, because they date what they sign."""
        return self._read()

    def timestamp(self) -> str:
        """Return RFC 3339 with microseconds and `Z`, as in Google's JSON."""
        return _rfc3339(self.now())

    def stamp(self, seconds: Any) -> str:
        """Return the same for a time that a training process recorded, in seconds since 1970 on the system's clock."""
        moment = datetime.fromtimestamp(seconds if isinstance(seconds, int | float) else 0, UTC)
        return _rfc3339(self._compressed(moment))

    def _compressed(self, moment: datetime) -> datetime:
        return moment if self.scale == 1 else self._since + (moment - self._since) * self.scale


def compressed(store: Store, scale: float) -> Clock:
    """Return a clock that runs faster since this state was first opened with such a clock.

    Therefore, it does not jump back after a restart with the same scale.
    """
    kind, name = "clock", "compressed-since"
    found = store.read(lambda connection: documents.find(connection, kind, name))
    if found is None:
        found = {"time": datetime.now(UTC).isoformat()}
        body = found
        store.write_sync(lambda connection: documents.put(connection, kind, name, body))
    return Clock(scale=scale, since=datetime.fromisoformat(found["time"]))


def _rfc3339(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
