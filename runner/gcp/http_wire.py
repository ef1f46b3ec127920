"""One HTTP/1.1 exchange over a connected socket: the standard library takes several times its CPU for small answers."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_MAX_HEAD_BYTES = 64 * 1024
_MAX_BODY_BYTES = 256 << 20
_READ_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """What the service said."""

    status: int
    headers: dict[str, str]
    """With lower-case names."""
    body: bytes

    def document(self) -> Any:
        """Return the JSON body; an empty object if there is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return {}


def exchange(connection: socket.socket, message: Sequence[bytes], method: str) -> tuple[Answer, bool]:
    """Send a request and return the answer, and whether the connection ends with it.

    Args:
        connection: of HTTP or HTTPS.
        message: head and body of the request, in pieces.
        method: of the request.

    Raises:
        OSError: the connection broke.
        http.client.HTTPException: the answer is no HTTP, too large, or cut short.
    """
    _send(connection, message)
    reader = _Reader(connection)
    while True:
        status, headers, old = reader.head()
        if status >= 200:
            break
    closes = old or "close" in headers.get("connection", "").lower()
    if method == "HEAD" or status in {204, 304}:
        body = b""
    elif headers.get("transfer-encoding", "").lower() == "chunked":
        body = reader.chunks()
    elif "content-length" in headers:
        body = reader.take(_number(headers["content-length"], 10))
    else:
        body, closes = reader.rest(), True
    return Answer(status, headers, body), closes or reader.has_more


def _send(connection: socket.socket, message: Sequence[bytes]) -> None:
    if isinstance(connection, ssl.SSLSocket):
        connection.sendall(b"".join(message))
        return
    sent = connection.sendmsg(message)
    for piece in message:
        if sent >= len(piece):
            sent -= len(piece)
        else:
            connection.sendall(memoryview(piece)[sent:])
            sent = 0


class _Reader:
    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = b""

    @property
    def has_more(self) -> bool:
        """Tell whether bytes are left that belong to no answer."""
        return bool(self._buffer)

    def head(self) -> tuple[int, dict[str, str], bool]:
        """Return status, headers, and whether the server speaks HTTP/1.0."""
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > _MAX_HEAD_BYTES:
                raise http.client.HTTPException("the answer's head is too long")
            self._more()
        first, *lines = self._buffer[:end].decode("latin-1").split("\r\n")
        self._buffer = self._buffer[end + 4 :]
        version, _, status = first.partition(" ")
        if not version.startswith("HTTP/1.") or not status[:3].isdecimal():
            raise http.client.BadStatusLine(first[:100])
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        return int(status[:3]), headers, version == "HTTP/1.0"

    def take(self, size: int) -> bytes:
        """Return so many bytes."""
        if size > _MAX_BODY_BYTES:
            raise http.client.HTTPException(f"an answer of {size} bytes")
        pieces, found = [self._buffer], len(self._buffer)
        while found < size:
            data = self._connection.recv(max(_READ_BYTES, min(size - found, 1 << 20)))
            if not data:
                raise http.client.IncompleteRead(b"".join(pieces), size - found)
            pieces.append(data)
            found += len(data)
        whole = b"".join(pieces)
        self._buffer = whole[size:]
        return whole[:size]

    def chunks(self) -> bytes:
        """Return a chunked body."""
        pieces: list[bytes] = []
        total = 0
        while True:
            size = _number(self._line().split(b";")[0].decode("latin-1"), 16)
            if not size:
                while self._line():
                    pass  # trailers
                return b"".join(pieces)
            total += size
            if total > _MAX_BODY_BYTES:
                raise http.client.HTTPException("the answer is too long")
            pieces.append(self.take(size))
            if self._line():
                raise http.client.HTTPException("a chunk has another length than it says")

    def rest(self) -> bytes:
        """Return all until the connection ends."""
        while True:
            try:
                self._more()
            except http.client.RemoteDisconnected:
                body, self._buffer = self._buffer, b""
                return body
            if len(self._buffer) > _MAX_BODY_BYTES:
                raise http.client.HTTPException("the answer is too long")

    def _line(self) -> bytes:
        while (end := self._buffer.find(b"\r\n")) < 0:
            if len(self._buffer) > _MAX_HEAD_BYTES:
                raise http.client.LineTooLong("chunk")
            self._more()
        line, self._buffer = self._buffer[:end], self._buffer[end + 2 :]
        return line

    def _more(self) -> None:
        data = self._connection.recv(_READ_BYTES)
        if not data:
            raise http.client.RemoteDisconnected("the server closed the connection")
        self._buffer += data


def _number(text: str, base: int) -> int:
    try:
        number = int(text.strip(), base)
    except ValueError:
        number = -1
    if number < 0:
        raise http.client.HTTPException(f"{text[:40]!r} is not a length")
    return number
