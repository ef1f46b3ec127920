"""Records every JSON exchange in the folder in `RUNNER_EMULATOR_RECORD`: one file for each process.

Tests validate the records against Google's definitions. Uploads, downloads and streams are omitted.
"""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runner.emulator.routing import is_packed

VARIABLE = "RUNNER_EMULATOR_RECORD"
_MAX_BODY = 1024 * 1024
_HEADERS = ("content-type", "content-encoding", "user-agent", "x-emulator-fault", "x-http-method-override")


def recorded(app: ASGIApp, variables: Mapping[str, str] = os.environ) -> ASGIApp:
    """Return the application, recorded if the variable is set."""
    directory = variables.get(VARIABLE)
    return _Recorder(app, Path(directory)) if directory else app


class _Recorder:
    def __init__(self, app: ASGIApp, directory: Path) -> None:
        self.app = app
        self.path = directory / f"{os.getpid()}.jsonl"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/_emulator/"):
            await self.app(scope, receive, send)
            return
        exchange = _Exchange(scope)

        async def heard() -> Message:
            message = await receive()
            exchange.heard(message)
            return message

        async def said(message: Message) -> None:
            exchange.said(message)
            await send(message)

        # Faults that break the connection look for the server behind `receive`.
        setattr(heard, "__self__", getattr(receive, "__self__", None))  # noqa: B010
        await self.app(scope, heard, said)
        line = exchange.line()
        if line is not None:
            with self.path.open("ab", buffering=0) as file:
                file.write(line)


class _Exchange:
    def __init__(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        self.about: dict[str, Any] = {
            "http": scope["method"],
            "path": scope.get("raw_path", scope["path"].encode()).split(b"?")[0].decode("latin-1"),
            "query": scope["query_string"].decode("latin-1"),
            "headers": {name: headers[name] for name in _HEADERS if name in headers},
        }
        self.request = bytearray()
        self.answer = bytearray()
        self.whole = False

    def heard(self, message: Message) -> None:
        """Receive a part of the request."""
        if message["type"] == "http.request" and len(self.request) <= _MAX_BODY:
            self.request += message.get("body", b"")

    def said(self, message: Message) -> None:
        """Send a part of the response."""
        if message["type"] == "http.response.start":
            self.about["status"] = message["status"]
            types = [value.decode("latin-1") for name, value in message["headers"] if name.lower() == b"content-type"]
            self.about["type"] = types[0] if types else ""
        elif message["type"] == "http.response.body" and len(self.answer) <= _MAX_BODY:
            self.answer += message.get("body", b"")
            self.whole = not message.get("more_body", False)

    def line(self) -> bytes | None:
        """Return the exchange as a line of JSON; None if it is not JSON, or the response is missing or incomplete."""
        if not self.whole or max(len(self.request), len(self.answer)) > _MAX_BODY:
            return None
        if self.answer and not self.about["type"].startswith("application/json"):
            return None
        if self.request and is_packed(self.about["headers"]):
            try:
                self.request = bytearray(gzip.decompress(self.request))
            except (OSError, EOFError, zlib.error):
                return None
        bodies = {"request": self.request.decode("utf-8", "replace"), "answer": self.answer.decode("utf-8", "replace")}
        return (json.dumps({**self.about, **bodies}) + "\n").encode()
