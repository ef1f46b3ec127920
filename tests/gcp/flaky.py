"""An HTTP proxy in front of the emulator that breaks chosen requests as networks and services do."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.gcp.corrupting import CorruptingProxy, Exchange


@dataclass(slots=True)
class Fault:
    """Break requests that match, `times` times.

    Kinds: `lose answer` forwards the request and closes the connection instead of answering; `lose request` closes it
    without forwarding; a number answers with that HTTP status without forwarding, `503 after` and the like forward
    before; `empty` answers `{}` without forwarding; `pass` forwards and answers.
    """

    method: str
    path: str
    """Regular expression, searched for in the path."""
    kind: str | int
    times: int = 1
    skip: int = 0
    """Let so many matching requests pass first."""
    before: Callable[[], None] | None = None
    """Called once the request has been forwarded, or instead of forwarding, before the connection is closed."""

    @property
    def is_late(self) -> bool:
        """Tell whether the request is carried out before its answer is replaced."""
        return str(self.kind).endswith(" after")


@dataclass(slots=True)
class FlakyProxy(CorruptingProxy):
    """The proxy; a context manager. `requests` lists `METHOD path` of everything that arrived."""

    faults: list[Fault] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    bodies: list[tuple[str, bytes]] = field(default_factory=list)
    """`METHOD path` and body of everything that arrived."""
    rewrites: list[tuple[bytes, bytes, int]] = field(default_factory=list)
    """What to replace in answers, by what, in how many answers that have it."""

    def __post_init__(self) -> None:
        self.request, self.answer = self._asked, self._answered

    def count(self, method: str, path: str) -> int:
        """Return how many requests with this method have arrived whose path matches."""
        return sum(1 for line in self.requests if line.startswith(method + " ") and re.search(path, line))

    def _asked(self, exchange: Exchange) -> bool:
        self.requests.append(f"{exchange.method} {exchange.path}")
        self.bodies.append((self.requests[-1], exchange.body))
        exchange.note = fault = self._fault(exchange.method, exchange.path)
        exchange.times = int(fault is None or fault.is_late or fault.kind in {"lose answer", "pass"})
        return False

    def _answered(self, exchange: Exchange) -> bool:
        fault = exchange.note
        if fault is not None and fault.before is not None:
            fault.before()
        if fault is None or fault.kind == "pass":
            exchange.content = self._rewrite(exchange.content)
        elif fault.kind == "empty":
            exchange.answer_with(200, b"{}", {"content-type": "application/json"})
        elif isinstance(fault.kind, int) or fault.is_late:
            status = int(str(fault.kind).removesuffix(" after"))
            text = b'{"error":{"code":%d,"message":"injected","status":"UNAVAILABLE"}}' % status
            exchange.answer_with(status, text, {"content-type": "application/json", "retry-after": "0"})
        else:
            exchange.drop()
        return fault is not None

    def _rewrite(self, content: bytes) -> bytes:
        for index, (old, new, times) in enumerate(self.rewrites):
            if times > 0 and old in content:
                self.rewrites[index] = (old, new, times - 1)
                content = content.replace(old, new)
        return content

    def _fault(self, method: str, path: str) -> Fault | None:
        for fault in self.faults:
            if fault.times > 0 and fault.method == method and re.search(fault.path, path):
                if fault.skip > 0:
                    fault.skip -= 1
                    return None
                fault.times -= 1
                return fault
        return None
