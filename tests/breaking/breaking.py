"""Break one request of a command line, as a proxy between it and the service."""

from __future__ import annotations

import re
import threading
from collections import Counter
from dataclasses import dataclass, field

from tests.breaking.kinds import Kind
from tests.gcp.corrupting import Exchange

_CHANGING = (
    (re.compile(r"projects/[^/:?]+"), "projects/P"),
    (re.compile(r"/b/[^/?]+-([a-z]+)"), r"/b/\1"),
    (re.compile(r"\?.*(uploadType=\w+|alt=media).*"), r"?\1"),
    (re.compile(r"\?(?!uploadType|alt).*"), ""),
    (re.compile(r"locations/(?!us-central1)[a-z]+-[a-z0-9-]+"), "locations/OTHER"),
    (re.compile(r"omt-[0-9a-f]+|[0-9]{5,}|[0-9a-f]{12,}|[a-z2-7]{20,}"), "ID"),
    (re.compile(r"/o/.+?(?=\?|$)"), "/o/OBJECT"),
)


def signature(method: str, path: str) -> str:
    """Return what a request asks for, without the names that differ from run to run."""
    for pattern, replacement in _CHANGING:
        path = pattern.sub(replacement, path)
    return f"{method} {path}"


@dataclass(slots=True)
class Breaking:
    """Both hooks of a `CorruptingProxy`: breaks the n-th request of one signature, and perhaps those after it."""

    signature: str
    number: int
    kind: Kind
    times: int = 1
    struck: int = 0
    _seen: Counter[str] = field(default_factory=Counter)
    _hit: set[int] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def request(self, exchange: Exchange) -> bool:
        """Take the request's part; note that its answer is to be broken."""
        name = signature(exchange.method, exchange.path)
        with self._lock:
            place = self._seen[name]
            self._seen[name] += 1
            if name != self.signature or not self.number <= place < self.number + self.times:
                return False
            self.struck += 1
            self._hit.add(id(exchange))
        if self.kind.when == "before":
            exchange.times = 0
            self.kind.change(exchange)
            self._hit.discard(id(exchange))
        elif self.kind.name == "twice":
            exchange.times = 2
        return True

    def answer(self, exchange: Exchange) -> bool:
        """Take the answer's part."""
        with self._lock:
            if id(exchange) not in self._hit:
                return False
            self._hit.discard(id(exchange))
        self.kind.change(exchange)
        return True
