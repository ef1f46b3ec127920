"""A server in front of an emulator that loses one answer: the request is cut before or after it was carried out."""

from __future__ import annotations

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal
from urllib.parse import urlsplit

READS = ("GET", "HEAD")
_HOP = {"connection", "transfer-encoding", "content-length", "keep-alive", "date", "server"}


class Cutting:
    """Counts the requests that change something, and cuts the conversation at one of them."""

    def __init__(self, url: str) -> None:
        self.target = urlsplit(url)
        self.changes: list[str] = []
        """Every request that changes something, as `METHOD path`."""
        self.reads = 0
        self.at: int | None = None
        """Which of them is cut, from 0; None cuts none."""
        self.when: Literal["before", "after"] = "before"
        self.cut = ""
        """The request that was cut."""
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                self.raw_requestline = self.rfile.readline(65537)
                if not self.raw_requestline or not self.parse_request():
                    self.close_connection = True
                    return
                outer.serve(self)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # a client that was killed closes its connection in any state

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Cutting:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def arm(self, at: int | None, when: Literal["before", "after"] = "before") -> None:
        """Count anew, and cut at one request."""
        with self._lock:
            self.changes, self.cut, self.at, self.when = [], "", at, when

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        length = int(handler.headers.get("Content-Length") or 0)
        body = handler.rfile.read(length) if length else None
        with self._lock:
            here = False
            # Reads of policies are posts that change nothing.
            if handler.command not in READS and not handler.path.partition("?")[0].endswith(":getIamPolicy"):
                here = len(self.changes) == self.at and not self.cut
                self.changes.append(f"{handler.command} {handler.path.partition('?')[0]}")
                if here:
                    self.cut = self.changes[-1]
        if here and self.when == "before":
            handler.close_connection = True
            return
        connection = http.client.HTTPConnection(self.target.hostname or "", self.target.port or 80, timeout=60)
        headers = {key: value for key, value in handler.headers.items() if key.lower() not in {"host", "connection"}}
        try:
            connection.request(handler.command, handler.path, body=body, headers=headers)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if here:
            handler.close_connection = True
            return
        handler.send_response(answer.status)
        for key, value in answer.getheaders():
            if key.lower() not in _HOP:
                handler.send_header(key, value)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)
