"""What the HTTP servers of tests have in common: a port on loopback, a thread, JSON, and no log."""

from __future__ import annotations

import json
import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


class Handler(BaseHTTPRequestHandler):
    """A handler that keeps connections and says nothing. Subclasses have `answer`, or `answer_get`, `answer_post`, …"""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two packets, and the second would wait 40 ms

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""

    def answer(self) -> None:
        """Answer one request."""
        getattr(self, f"answer_{self.command.lower()}")()

    def _any(self) -> None:
        self.answer()

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _any  # noqa: N815

    def body(self) -> bytes:
        """Read the body of a request that tells its length."""
        return self.rfile.read(int(self.headers.get("content-length") or 0))

    def send_json(self, status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        """Answer."""
        self.send_content(status, json.dumps(body).encode(), {"content-type": "application/json", **(headers or {})})

    def send_content(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        """Answer; the length is added."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A killed client breaks its connection; that is the point of some tests."""


@dataclass(slots=True)
class LocalServer(ABC):
    """A context manager, which serves between entering and leaving."""

    url: str = field(default="", kw_only=True)
    _server: ThreadingHTTPServer | None = field(default=None, kw_only=True)

    @abstractmethod
    def handler(self) -> type[Handler]:
        """Return the class that answers a request."""

    def __enter__(self) -> Self:
        self._server = _Server(("127.0.0.1", 0), self.handler())
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
