"""An HTTP proxy in front of the emulator that breaks chosen requests as networks and services do."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx

from tests.local_server import Handler, LocalServer

_HOP_BY_HOP = {"connection", "content-length", "transfer-encoding", "keep-alive", "host", "content-encoding"}


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


@dataclass(slots=True)
class FlakyProxy(LocalServer):
    """The proxy; a context manager. `requests` lists `METHOD path` of everything that arrived."""

    upstream: str
    faults: list[Fault] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    bodies: list[tuple[str, bytes]] = field(default_factory=list)
    """`METHOD path` and body of everything that arrived."""
    rewrites: list[tuple[bytes, bytes, int]] = field(default_factory=list)
    """What to replace in answers, by what, in how many answers that have it."""

    def handler(self) -> type[Handler]:
        """Return what hands every request to the proxy."""
        proxy = self

        class Passing(Handler):
            def answer(self) -> None:
                proxy._handle(self)

        return Passing

    def count(self, method: str, path: str) -> int:
        """Return how many requests with this method have arrived whose path matches."""
        return sum(1 for line in self.requests if line.startswith(method + " ") and re.search(path, line))

    def _handle(self, handler: Handler) -> None:
        body = handler.body()
        self.requests.append(f"{handler.command} {handler.path}")
        self.bodies.append((self.requests[-1], body))
        fault = self._fault(handler.command, handler.path)
        late = fault is not None and str(fault.kind).endswith(" after")
        if fault is None or late or fault.kind in {"lose answer", "pass"}:
            headers = {key: value for key, value in handler.headers.items() if key.lower() not in _HOP_BY_HOP}
            answer = httpx.request(
                handler.command, self.upstream + handler.path, content=body, headers=headers, timeout=60
            )
        if fault is not None and fault.before is not None:
            fault.before()
        if fault is None or fault.kind == "pass":
            _answer(handler, answer.status_code, dict(answer.headers), self._rewrite(answer.content))
        elif fault.kind == "empty":
            _answer(handler, 200, {"content-type": "application/json"}, b"{}")
        elif isinstance(fault.kind, int) or late:
            status = int(str(fault.kind).removesuffix(" after"))
            text = b'{"error":{"code":%d,"message":"injected","status":"UNAVAILABLE"}}' % status
            _answer(handler, status, {"content-type": "application/json", "retry-after": "0"}, text)
        else:
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)

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


def _answer(handler: Handler, status: int, headers: dict[str, str], content: bytes) -> None:
    handler.send_content(
        status, content, {key: value for key, value in headers.items() if key.lower() not in _HOP_BY_HOP}
    )
