"""HTTP/1.1 connections on `http.client`, with less CPU for each request."""

from __future__ import annotations

import http.client
import select
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any

_MAX_HEADERS = 100
_MAX_LINE = 65536
_MALFORMED = "the head of the answer is malformed, or too long"


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
            first, *rest = self._head()
            version, status, reason = _status(first)
            if status >= 200:
                break
        else:
            raise http.client.HTTPException("the service sends nothing but interim answers")
        fields = _fields(rest)
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
        if self.length and self.length <= most and self.length <= len(self.fp.peek(1)):  # all of it has come
            content = self.fp.read(self.length)
            self.length = 0
            self.close()
            return content
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

    def _head(self) -> list[str]:
        """Return the lines of a head without their ends, mostly from what one packet has brought."""
        there = self.fp.peek(1)
        end = there.find(b"\r\n\r\n")
        if end > 0 and there.count(b"\n", 0, end) == there.count(b"\r\n", 0, end):
            return self.fp.read(end + 4)[:end].decode("latin-1").split("\r\n")
        lines: list[str] = []
        while len(lines) <= _MAX_HEADERS:
            line = self._line()
            if not lines and not line.startswith(b"HTTP/1."):
                raise _no_status(line)
            if line in {b"\r\n", b"\n"}:
                return lines
            if not line.endswith(b"\n"):  # cut short, or too long
                break
            lines.append(line.decode("latin-1").rstrip("\r\n"))
        raise http.client.HTTPException(_MALFORMED)

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


def _status(line: str) -> tuple[str, int, str]:
    version, _, rest = line.partition(" ")
    code, _, reason = rest.strip().partition(" ")
    if not version.startswith("HTTP/1.") or not (code.isascii() and code.isdecimal() and len(code) == 3):
        raise _no_status(line.encode("latin-1"))
    return version, int(code), reason


def _no_status(line: bytes) -> http.client.HTTPException:
    if not line:
        return http.client.RemoteDisconnected("the connection was closed without an answer")
    return http.client.BadStatusLine(line[:80].decode("latin-1"))


def _fields(lines: list[str]) -> dict[str, str]:
    fields: dict[str, str] = {}
    if len(lines) > _MAX_HEADERS:
        raise http.client.HTTPException(_MALFORMED)
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise http.client.HTTPException(_MALFORMED)
        name, value = name.lower(), value.strip()
        if name == "content-length" and fields.get(name, value) != value:
            raise http.client.HTTPException("the answer has two lengths")
        fields[name] = value
    return fields


class Connection(http.client.HTTPConnection):
    """Sends head and body together: a packet less, and nobody wakes for the head alone."""

    def ask(self, verb: str, target: str, fields: Mapping[str, str], body: Sequence[bytes]) -> None:
        """Send a request. Raises OSError; ValueError for a head that is malformed, before anything is sent."""
        lines = [f"{verb} {target} HTTP/1.1", *[f"{name}: {value}" for name, value in fields.items()]]
        together = "".join(lines)
        if not (together.isprintable() and together.isascii()) or " " in target:
            raise ValueError("the address or a header of the request holds a sign that is not allowed there")
        message = ["\r\n".join([*lines, "\r\n"]).encode(), *body]
        if not hasattr(self.sock, "sendmsg") or self.sock.__class__ is not socket.socket:  # TLS has no sendmsg
            self.sock.sendall(b"".join(message))
            return
        sent = self.sock.sendmsg(message)
        if sent == sum(map(len, message)):
            return
        for piece in message:
            if sent < len(piece):
                self.sock.sendall(memoryview(piece)[sent:])
            sent = max(0, sent - len(piece))

    def answered(self, verb: str, deadline: float) -> Answer:
        """Return the answer, its head read. Raises OSError, HTTPException."""
        answer = Answer(self.sock, method=verb, deadline=deadline)
        try:
            answer.begin()
        except BaseException:
            answer.close()
            raise
        return answer


class TlsConnection(Connection, http.client.HTTPSConnection):
    """The same over TLS."""


def readable(connection: http.client.HTTPConnection) -> bool:
    """Tell whether there is something to read on an idle connection: its end, mostly."""
    if not hasattr(select, "poll"):
        return bool(select.select([connection.sock], [], [], 0)[0])
    poll = select.poll()  # `select` fails with many open files
    poll.register(connection.sock, select.POLLIN)
    return bool(poll.poll(0))
