"""A server in front of an emulator that loses one answer: the request is cut before or after it was carried out."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Literal

from tests.gcp.corrupting import CorruptingProxy, Exchange

READS = ("GET", "HEAD")


@dataclass(slots=True)
class Cutting(CorruptingProxy):
    """Counts the requests that change something, and cuts the conversation at one of them."""

    changes: list[str] = field(default_factory=list)
    """Every request that changes something, as `METHOD path`."""
    at: int | None = None
    """Which of them is cut, from 0; None cuts none."""
    when: Literal["before", "after"] = "before"
    cut: str = ""
    """The request that was cut."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.request = self._asked
        self.answer = self._answered

    def arm(self, at: int | None, when: Literal["before", "after"] = "before") -> None:
        """Count anew, and cut at one request."""
        with self._lock:
            self.changes, self.cut, self.at, self.when = [], "", at, when

    def _asked(self, exchange: Exchange) -> bool:
        path = exchange.path.partition("?")[0]
        # Reads of policies are posts that change nothing.
        if exchange.method in READS or path.endswith(":getIamPolicy"):
            return False
        with self._lock:
            exchange.note = len(self.changes) == self.at and not self.cut
            self.changes.append(f"{exchange.method} {path}")
            if exchange.note:
                self.cut = self.changes[-1]
                exchange.times = int(self.when == "after")
        return bool(exchange.note)

    def _answered(self, exchange: Exchange) -> bool:
        if exchange.note:
            exchange.drop()
        return False
