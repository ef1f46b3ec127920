"""A proxy in front of the emulator that changes requests and answers under way, or breaks the conversation."""

from __future__ import annotations

import gzip
import json
import re
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self

import httpx

from tests.local_server import Handler, LocalServer

_NOT_PASSED = {"connection", "transfer-encoding", "keep-alive", "host", "accept-encoding"}


@dataclass(slots=True, kw_only=True)
class Exchange:
    """One request and, once the emulator has answered, its answer. What is in it is what goes on."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    status: int = 0
    answered: dict[str, str] = field(default_factory=dict)
    """Headers of the answer, with lower-case names; `content-length` is added where it is missing."""
    content: bytes = b""
    after: bytes = b""
    """Sent behind the answer, belonging to nothing."""
    keep_open: bool = True
    """Whether more may be asked on the connection."""
    silent: bool = False
    """Leave the connection open and answer nothing more on it."""
    times: int = 1
    """How often the request goes on; 0 answers what is here already."""
    pause: float = 0.0
    """Seconds until the answer begins."""
    raw: bytes | None = None
    """Sent instead of head and content; b"" closes the connection without a word."""
    endless: bytes = b""
    """Sent behind everything else, piece after piece, until the client gives up."""
    reset: bool = False
    """End the connection by a TCP reset."""
    note: Any = None
    """What the change of the request leaves for the change of the answer."""

    def drop(self) -> None:
        """Close the connection without an answer; without a request, if none has gone on."""
        self.raw = b""

    def answer_with(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        """Answer this instead of what the emulator says."""
        self.status, self.content, self.answered = status, content, headers

    @property
    def is_download(self) -> bool:
        """Tell whether the answer is an object's bytes."""
        return self.method == "GET" and "alt=media" in self.path

    @property
    def is_metadata(self) -> bool:
        """Tell whether the answer describes one object."""
        return self.method == "GET" and "alt=media" not in self.path and re.search(r"/o/[^?]", self.path) is not None

    @property
    def is_list(self) -> bool:
        """Tell whether the answer is a list of objects."""
        return self.method == "GET" and re.search(r"/o(\?|$)", self.path) is not None

    @property
    def is_upload(self) -> bool:
        """Tell whether the request carries an object's bytes."""
        whole = self.method == "POST" and "uploadType=multipart" in self.path
        return whole or (
            self.method == "PUT" and not self.headers.get("content-range", "bytes */").startswith("bytes */")
        )


Change = Callable[[Exchange], bool]
"""Changes an exchange in place and tells whether it was one that it is about."""


@dataclass(slots=True)
class CorruptingProxy(LocalServer):
    """The proxy; a context manager."""

    upstream: str
    request: Change | None = None
    """Applied to requests before they go on."""
    answer: Change | None = None
    """Applied to answers before they go back."""
    struck: int = 0
    """How many exchanges were changed."""
    seen: list[str] = field(default_factory=list)
    """`METHOD path` of what arrived."""
    _client: httpx.Client = field(init=False)

    def __enter__(self) -> Self:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=32)
        self._client = httpx.Client(timeout=60, trust_env=False, verify=False, limits=limits)  # noqa: S501 - loopback
        LocalServer.__enter__(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        LocalServer.__exit__(self, kind, error, trace)
        self._client.close()

    def handler(self) -> type[Handler]:
        """Return what hands every request to the proxy."""
        proxy = self

        class Passing(Handler):
            def answer(self) -> None:
                proxy._handle(self)

        return Passing

    def _handle(self, handler: Handler) -> None:
        body = _chunked(handler) if handler.headers.get("transfer-encoding") == "chunked" else handler.body()
        headers = {name.lower(): value for name, value in handler.headers.items()}
        exchange = Exchange(method=handler.command, path=handler.path, headers=headers, body=body)
        self.seen.append(f"{handler.command} {handler.path}")
        if self.request is not None:
            self.struck += self.request(exchange)
        passed = {name: value for name, value in exchange.headers.items() if name not in _NOT_PASSED}
        passed["content-length"] = str(len(exchange.body))
        passed["accept-encoding"] = exchange.headers.get("accept-encoding", "identity")
        for _ in range(exchange.times):
            address = self.upstream + exchange.path
            with self._client.stream(exchange.method, address, content=exchange.body, headers=passed) as answer:
                exchange.content = b"".join(answer.iter_raw())
            exchange.status = answer.status_code
            exchange.answered = {
                name: value.replace(self.upstream, self.url)
                for name, value in answer.headers.items()
                if name not in {*_NOT_PASSED, "content-length"}
            }
        if self.answer is not None:
            self.struck += self.answer(exchange)
        try:
            _send(handler, exchange)
        except OSError:  # the client has gone
            handler.close_connection = True


def _chunked(handler: Handler) -> bytes:
    pieces = []
    while size := int(handler.rfile.readline().split(b";")[0], 16):
        pieces.append(handler.rfile.read(size))
        handler.rfile.readline()
    handler.rfile.readline()
    return b"".join(pieces)


def _send(handler: Handler, exchange: Exchange) -> None:
    if exchange.pause:
        time.sleep(exchange.pause)
    headers = {"content-length": str(len(exchange.content)), **exchange.answered}
    if "transfer-encoding" in headers:
        del headers["content-length"]
    reason = HTTPStatus(exchange.status).phrase if exchange.status in set(HTTPStatus) else "Unknown"
    lines = [f"HTTP/1.1 {exchange.status} {reason}", *(f"{name}: {value}" for name, value in headers.items()), "\r\n"]
    message = "\r\n".join(lines).encode("latin-1") + exchange.content + exchange.after
    if exchange.reset:
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.wfile.write(message if exchange.raw is None else exchange.raw)
    while exchange.endless:
        handler.wfile.write(exchange.endless)
        time.sleep(0.02)
    if exchange.silent:
        while handler.connection.recv(65536):  # read what comes until the client gives up
            pass
    if exchange.reset:
        handler.close_connection = True
        handler.connection.close()
    elif exchange.silent or not exchange.keep_open or exchange.raw is not None:
        handler.close_connection = True
        handler.connection.shutdown(socket.SHUT_RDWR)


def flipped(data: bytes) -> bytes:
    """Return data with one bit changed in their middle."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def doubled(data: bytes) -> bytes:
    """Return data with the second quarter sent twice."""
    quarter = len(data) // 4
    return data[: 2 * quarter] + data[quarter : 2 * quarter] + data[2 * quarter :]


def in_payload(change: Callable[[bytes], bytes], payload: bytes) -> Change:
    """Return what changes the bytes of an object in an upload."""

    def apply(exchange: Exchange) -> bool:
        if not exchange.is_upload:
            return False
        if exchange.method == "PUT":
            exchange.body = change(exchange.body)
        else:
            assert payload in exchange.body, "the object is in the request"
            exchange.body = exchange.body.replace(payload, change(payload))
        return True

    return apply


def in_download(change: Callable[[bytes], bytes], **headers: str) -> Change:
    """Return what changes the bytes of an object in a download, and headers of the answer."""

    def apply(exchange: Exchange) -> bool:
        if not exchange.is_download or exchange.status >= 300:
            return False
        exchange.content = change(exchange.content)
        exchange.answered |= {name.replace("_", "-"): value for name, value in headers.items()}
        return True

    return apply


def in_document(change: Callable[[dict[str, object]], object], *, of: str) -> Change:
    """Return what changes the JSON answers of one kind: `metadata`, `list`, `upload`."""

    def apply(exchange: Exchange) -> bool:
        if not getattr(exchange, f"is_{of}") or exchange.status not in {200, 201}:
            return False
        body = json.loads(exchange.content)
        for item in body.get("items", []) if of == "list" else [body]:
            change(item)
        exchange.content = json.dumps(body).encode()
        return True

    return apply


def gzipped(exchange: Exchange) -> bool:
    """Compress an object's bytes under way, as a proxy does that saves traffic."""
    if not exchange.is_download or exchange.status >= 300:
        return False
    exchange.content = gzip.compress(exchange.content)
    exchange.answered["content-encoding"] = "gzip"
    return True
