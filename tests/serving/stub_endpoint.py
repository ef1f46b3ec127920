"""A real HTTP server that answers as an endpoint does, counts what it was asked, and fails now and then."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

ENDPOINT = "projects/p/locations/us-central1/endpoints/77"


@dataclass(slots=True)
class StubEndpoint:
    """A context manager; `asked` counts answers sent by question, `most` is how many were under way at once."""

    seconds: float = 0.004
    failing: dict[int, int] = field(default_factory=dict)
    """HTTP status by number of the request."""
    refusals: tuple[int, ...] = ()
    """HTTP statuses that every question meets before it is answered."""
    asked: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    most: int = 0
    url: str = ""
    _requests: int = 0
    _now: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _server: ThreadingHTTPServer | None = None

    def __enter__(self) -> StubEndpoint:
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *arguments: object) -> None:
                """Say nothing."""

            def do_GET(self) -> None:
                one = {"name": ENDPOINT, "displayName": "stub", "deployedModels": [{"id": "1", "model": "m"}]}
                self._send(200, {"endpoints": [one]} if self.path.split("?")[0].endswith("/endpoints") else one)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                self._send(*stub._answer(body))

            def _send(self, status: int, body: dict[str, Any]) -> None:
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, request: Any, client_address: Any) -> None:
                """A killed client breaks its connection; that is the point of the test."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def _answer(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        with self._lock:
            number = self._requests
            self._requests += 1
            self._now += 1
            self.most = max(self.most, self._now)
        try:
            # Later questions are answered sooner, so that answers come out of order.
            time.sleep(self.seconds * (1 + (number * 7) % 3))
            status = self.failing.get(number, 200)
            if status != 200:
                return status, {"error": {"code": status, "message": "injected", "status": "UNAVAILABLE"}}
            key = json.dumps(body.get("instances") or body.get("messages"))
            with self._lock:
                before = self.refused[key]
                self.refused[key] += before < len(self.refusals)
            if before < len(self.refusals):
                error = {"code": self.refusals[before], "message": "injected", "status": "UNAVAILABLE"}
                return self.refusals[before], {"error": error}
            if "instances" in body:
                question = str(body["instances"][0]["prompt"])
                answer: dict[str, Any] = {"predictions": [f"answer to {question}"]}
            else:
                question = str(body["messages"][-1]["content"])
                if question == "forbidden":
                    return 400, {"error": {"code": 400, "message": "no", "status": "INVALID_ARGUMENT"}}
                message = {"role": "assistant", "content": f"answer to {question}"}
                answer = {
                    "model": "stub",
                    "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
                }
            with self._lock:
                self.asked[question] += 1
            return 200, answer
        finally:
            with self._lock:
                self._now -= 1
