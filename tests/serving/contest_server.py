"""A real HTTP server with endpoints that answer by a rule of the test's, for evaluations whose result is known."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from runner.environment import Environment
from runner.gcp.session import Session
from tests.local_server import Handler, LocalServer

PARENT = "projects/p/locations/us-central1"
Rule = Callable[[dict[str, Any]], tuple[int, dict[str, Any] | Iterator[str]]]
"""Takes the body of a chat completions request, returns status and body of the answer, or the pieces of a stream."""


def says(text: str, *, reason: str = "stop", **fields: Any) -> tuple[int, dict[str, Any]]:
    """Return an ordinary answer."""
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": reason}
    return 200, {"model": "m", "choices": [choice], "usage": {}, **fields}


@dataclass(slots=True)
class ContestServer(LocalServer):
    """A context manager. `rules` by name of the endpoint, or of the managed model; `asked` are the bodies that came."""

    rules: dict[str, Rule]
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    left: threading.Event = field(default_factory=threading.Event)
    """Set once a client has gone away in the middle of a stream."""

    def handler(self) -> type[Handler]:
        """Return what answers by the rules."""
        contest = self

        class Contest(Handler):
            def answer_get(self) -> None:
                every = [
                    {"name": f"{PARENT}/endpoints/{name}", "displayName": name, "deployedModels": [{"id": "1"}]}
                    for name in contest.rules
                    if "/" not in name
                ]
                last = self.path.split("?")[0].rsplit("/", 1)[-1]
                one = next((item for item in every if str(item["name"]).endswith(f"/{last}")), None)
                self.send_json(200, one or {"endpoints": every})

            def answer_post(self) -> None:
                body = json.loads(self.body())
                [name] = re.findall(r"/endpoints/([^/]+)/(?:deployedModels/1/invoke/v1/)?chat/completions", self.path)
                name = body["model"] if name == "openapi" else name
                contest.asked.append((name, body))
                status, answer = contest.rules[name](body)
                if isinstance(answer, dict):
                    self.send_json(status, answer)
                    return
                try:
                    self._stream(answer)
                except ConnectionError:
                    contest.left.set()

            def _stream(self, pieces: Iterator[str]) -> None:
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.send_header("connection", "close")
                self.end_headers()
                for piece in pieces:
                    chunk = {"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]}
                    self.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
                self.wfile.write(b"data: [DONE]\n\n")

        return Contest

    def session(self) -> Session:
        """Return a session on this server."""
        return Session(Environment(project="p", location="us-central1", vertex_url=self.url, token="t"))

    def variables(self) -> dict[str, str]:
        """Return the environment variables that lead a command here."""
        return {"RUNNER_PROJECT": "p", "RUNNER_LOCATION": "us-central1", "RUNNER_VERTEX_URL": self.url} | {
            "RUNNER_TOKEN": "t"
        }

    def count(self, name: str) -> int:
        """Return how often an endpoint was asked."""
        return sum(one == name for one, _ in self.asked)
