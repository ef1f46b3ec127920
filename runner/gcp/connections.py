"""HTTP/1.1 connections on `http.client`, with less CPU for each request."""

from __future__ import annotations

import http.client
import select
import socket
import time
from functools import partial
from typing import Any

_MAX_HEADERS = 100
_MAX_LINE = 65536


class Answer(http.client.HTTPResponse):
    """Keeps its headers in a dictionary: the e-mail parser takes a third of a small request's CPU.

    And ends: a service that sends byte after byte is not silent, and never done.
    """

    def __init__(self, *arguments: Any, deadline: float = float("inf"), **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.deadline = deadline
        """On `time.monotonic`: when the head, and a body that `read_to_end` reads, must be here."""

    def begin(self) -> None:
        """Read the head. Raises OSError, HTTPException."""
        for _ in range(_MAX_HEADERS):
            version, status, reason = self._status()
            fields = self._fields()
            if status >= 200:
                break
        else:
            raise http.client.HTTPException("the service sends nothing but interim answers")
        self.version = 10 if version.startswith("HTTP/1.0") else 11
        self.code = self.status = status
        self.reason = reason.strip()
        self.headers = self.msg = fields  # type: ignore[assignment]
        self.chunked = fields.get("transfer-encoding", "").lower() == "chunked"
        self.chunk_left = None
        self.length = None
        if status in {204, 304} or self._method == "HEAD":  # type: ignore[attr-defined]
            self.length = 0
        elif not self.chunked and "content-length" in fields:
            if not fields["content-length"].isdecimal():
                raise http.client.HTTPException(f"{fields['content-length'][:40]!r} is not a length")
            self.length = int(fields["content-length"])
        kept = self.chunked or self.length is not None
        said = fields.get("connection", "").lower()
        self.will_close = not kept or "close" in said or (self.version == 10 and "keep-alive" not in said)

    def read_piece(self, most: int) -> bytes:
        """Return what has come of the body, so many bytes at most; b"" at its end. Raises OSError, HTTPException."""
        piece = self.read1(most)
        if not piece and self.length and not self.chunked:
            raise http.client.IncompleteRead(b"", self.length)
        if not piece or (not self.chunked and self.length == 0):
            self.close()
        return piece

    def read_to_end(self, most: int) -> bytes:
        """Return the body, or its first bytes where it has more than `most`. Raises OSError, HTTPException."""
        pieces, size = [], 0
        while size <= most and (piece := self.read_piece(1 << 20)):
            pieces.append(piece)
            size += len(piece)
            if self.isclosed():
                break
            self._check_time()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _check_time(self) -> None:
        if time.monotonic() > self.deadline:
            raise TimeoutError("the answer comes too slowly")

    def _line(self) -> bytes:
        """Return the next line of the head, with its end."""
        found = b""
        while True:
            there = self.fp.peek(1)
            if not there:
                return found
            end = there.find(b"\n") + 1
            found += self.fp.read(end or len(there))
            if end or len(found) > _MAX_LINE:
                return found
            self._check_time()

    def _status(self) -> tuple[str, int, str]:
        line = self._line().decode("latin-1")
        if not line:
            raise http.client.RemoteDisconnected("the connection was closed without an answer")
        version, _, rest = line.partition(" ")
        code, _, reason = rest.strip().partition(" ")
        if not version.startswith("HTTP/1.") or not (code.isascii() and code.isdecimal() and len(code) == 3):
            raise http.client.BadStatusLine(line[:80])
        return version, int(code), reason

    def _fields(self) -> dict[str, str]:
        fields: dict[str, str] = {}
        for _ in range(_MAX_HEADERS):
            line = self._line()
            if line in {b"\r\n", b"\n"}:
                return fields
            name, colon, value = line.decode("latin-1").partition(":")
            if not line.endswith(b"\n") or not colon:  # cut short, too long, or not a header
                break
            name, value = name.lower(), value.strip()
            if name == "content-length" and fields.get(name, value) != value:
                raise http.client.HTTPException("the answer has two lengths")
            fields[name] = value
        raise http.client.HTTPException("the head of the answer is malformed, or too long")


class Connection(http.client.HTTPConnection):
    """Sends head and body together: a packet less, and nobody wakes for the head alone."""

    response_class = Answer
    pieces = 0
    """How many pieces of the message are still to come before it is sent."""

    deadline = float("inf")
    """When the next answer must have come; see `Answer`."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._held: list[Any] = []

    def getresponse(self) -> Answer:
        """Return the answer, its head read. Raises OSError, HTTPException."""
        self.response_class = partial(Answer, deadline=self.deadline)  # type: ignore[assignment]
        return super().getresponse()  # type: ignore[return-value]

    def send(self, data: Any) -> None:
        """Hold a piece back until the message is whole."""
        if not self.pieces:
            super().send(data)
            return
        self._held.append(data)
        self.pieces -= 1
        if self.pieces:
            return
        message, self._held = self._held, []
        if not hasattr(self.sock, "sendmsg") or self.sock.__class__ is not socket.socket:  # TLS has no sendmsg
            super().send(b"".join(message))
            return
        sent = self.sock.sendmsg(message)
        for piece in message:
            if sent < len(piece):
                self.sock.sendall(memoryview(piece)[sent:])
            sent = max(0, sent - len(piece))


class TlsConnection(Connection, http.client.HTTPSConnection):
    """The same over TLS."""


def readable(connection: http.client.HTTPConnection) -> bool:
    """Tell whether there is something to read on an idle connection: its end, mostly."""
    if not hasattr(select, "poll"):
        return bool(select.select([connection.sock], [], [], 0)[0])
    poll = select.poll()  # `select` fails with many open files
    poll.register(connection.sock, select.POLLIN)
    return bool(poll.poll(0))
