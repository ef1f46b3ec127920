"""HTTP/1.1 connections based on `http.client`, with less CPU time for each request.

The end of a response is accepted only if every parser would find the same end. Otherwise, data of one response could be
read as the response to another request. Such a response is refused like a broken connection.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import select
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any

_MAX_HEADERS = 100
_MAX_LINE = 65536
_MAX_DIGITS = 19
"""Maximum number of digits of a length."""
_BLANK = " \t"
_FIELD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\0\r\n]*")
"""A header without its line end."""
_FOLDED = re.compile(r"[ \t][^\0\r\n]*")
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;.*)?\r?\n")
_MALFORMED = "the head of the answer is malformed, or too long"


class Answer(http.client.HTTPResponse):
    """A response with headers in a dictionary: the email parser takes a third of a small request's CPU time.

    It also has a time limit, because a service that sends single bytes is never silent and never finishes.
    """

    def __init__(self, sock: socket.socket, *, patience: float, **named: Any) -> None:
        super().__init__(sock, **named)
        self._socket = sock
        self.patience = patience
        """Seconds for the head, the size of a chunk, or the trailers."""
        self.deadline = time.monotonic() + patience
        """On `time.monotonic`: deadline for the head, and for a body that `read_to_end` reads."""

    def begin(self) -> None:
        """Read the head. Raises OSError, HTTPException."""
        for _ in range(_MAX_HEADERS):
            first, *rest = self._head()
            version, status, reason = _status(first)
            if status >= 200:
                break
            if status == 101:
                raise http.client.HTTPException("the service changes to another protocol")
        else:
            raise http.client.HTTPException("the service sends nothing but interim answers")
        fields = _fields(rest)
        self.version = 10 if version.startswith("HTTP/1.0") else 11
        self.code = self.status = status
        self.reason = reason.strip()
        self.headers = self.msg = fields  # type: ignore[assignment]
        coding, length = fields.get("transfer-encoding"), fields.get("content-length")
        if coding is not None and coding.lower() != "chunked":
            raise http.client.HTTPException(f"the answer is in the transfer encoding {coding[:40]!r}")
        if length is not None and not (length.isascii() and length.isdecimal() and len(length) < _MAX_DIGITS):
            raise http.client.HTTPException(f"{length[:40]!r} is not a length")
        bodiless = status in {204, 304} or self._method == "HEAD"  # type: ignore[attr-defined]
        self.chunked = coding is not None and not bodiless
        self.chunk_left = None
        self.length = 0 if bodiless else None if self.chunked or length is None else int(length)
        kept = (self.chunked and length is None) or self.length is not None
        said = fields.get("connection", "").lower()
        self.will_close = not kept or "close" in said or (self.version == 10 and "keep-alive" not in said)

    def read_piece(self, most: int) -> bytes:
        """Return the next part of the body, up to this many bytes; b"" at its end. Raises OSError, HTTPException."""
        if self.isclosed():
            return b""
        if self.chunked:
            return self._read_chunked(most)
        piece = self.fp.read1(most if self.length is None else min(most, self.length)) if self.length != 0 else b""
        if self.length is None:
            if not piece:
                self.close()
            return piece
        if self.length and not piece:
            raise http.client.IncompleteRead(b"", self.length)
        self.length -= len(piece)
        if not self.length:
            self._end()
        return piece

    def _read_chunked(self, most: int) -> bytes:
        if not self.chunk_left:
            until = time.monotonic() + self.patience
            if self.chunk_left == 0 and self._line(until) != b"\r\n":
                raise http.client.HTTPException("a chunk of the answer is longer than its size")
            size = _SIZE.fullmatch(self._line(until))
            if size is None:
                raise http.client.IncompleteRead(b"")
            self.chunk_left = int(size[1], 16)
            if not self.chunk_left:
                self._skip_trailers(until)
                self._end()
                return b""
        piece: bytes = self.fp.read1(min(most, self.chunk_left))
        if not piece:
            raise http.client.IncompleteRead(b"", self.chunk_left)
        self.chunk_left -= len(piece)
        return piece

    def _skip_trailers(self, until: float) -> None:
        for _ in range(_MAX_HEADERS):
            line = self._line(until)
            if line in {b"\r\n", b"\n"}:
                return
            if not line.endswith(b"\n"):
                break
        raise http.client.HTTPException("the trailers of the answer are cut short, or too long")

    def _end(self) -> None:
        """Finish a response that was read to its end.

        If more data than the response arrived, the connection is not reused.
        """
        self.will_close = self.will_close or self._has_more()
        self.close()

    def _has_more(self) -> bool:
        before = self._socket.gettimeout()
        self._socket.settimeout(0)
        try:
            return bool(self.fp.peek(1))
        except OSError:  # TLS raises this if there is no data
            return False
        finally:
            with contextlib.suppress(OSError):
                self._socket.settimeout(before)

    def read_to_end(self, most: int) -> bytes:
        """Return the body, or its first bytes if it has more than `most`. Raises OSError, HTTPException."""
        # All of it has arrived:
        if self.length and self.length <= most and self.length <= (there := len(self.fp.peek(1))):
            content = self.fp.read(self.length)
            self.will_close = self.will_close or there > self.length
            self.length = 0
            self.close()
            return content
        pieces, size = [], 0
        while size <= most and (piece := self.read_piece(1 << 20)):
            pieces.append(piece)
            size += len(piece)
            if self.isclosed():
                break
            _check_time(self.deadline)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _head(self) -> list[str]:
        """Return the lines of a head without line ends, usually from one packet."""
        there = self.fp.peek(1)
        end = there.find(b"\r\n\r\n")
        if end > 0 and there.count(b"\n", 0, end) == there.count(b"\r\n", 0, end):
            return self.fp.read(end + 4)[:end].decode("latin-1").split("\r\n")
        lines: list[str] = []
        while len(lines) <= _MAX_HEADERS:
            line = self._line(self.deadline)
            if not lines and not line.startswith(b"HTTP/1."):
                raise _no_status(line)
            if line in {b"\r\n", b"\n"}:
                return lines
            if not line.endswith(b"\n"):  # truncated, or too long
                break
            lines.append(line.decode("latin-1").rstrip("\r\n"))
        raise http.client.HTTPException(_MALFORMED)

    def _line(self, until: float) -> bytes:
        """Return the next line of a head, of sizes or of trailers with its line end.

        Incomplete after a broken connection.
        """
        found = b""
        while True:
            there = self.fp.peek(1)
            if not there:
                return found
            end = there.find(b"\n") + 1
            found += self.fp.read(end or len(there))
            if end or len(found) > _MAX_LINE:
                return found
            _check_time(until)


def _check_time(until: float) -> None:
    if time.monotonic() > until:
        raise TimeoutError("the answer comes too slowly")


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
    name = ""
    for line in lines:
        if name and _FOLDED.fullmatch(line):  # folded, as old servers do
            fields[name] = f"{fields[name]} {line.strip(_BLANK)}".strip(_BLANK)
            continue
        if _FIELD.fullmatch(line) is None:
            raise http.client.HTTPException(_MALFORMED)
        name, _, value = line.partition(":")
        name, value = name.lower(), value.strip(_BLANK)
        before = fields.get(name, value)
        if before != value:
            if name in {"content-length", "transfer-encoding"}:
                raise http.client.HTTPException(f"the answer has two headers {name}")
            value = f"{before}, {value}"
        fields[name] = value
    return fields


class Connection(http.client.HTTPConnection):
    """Sends head and body together, which saves a packet and a wake-up of the receiver."""

    def ask(self, verb: str, target: str, fields: Mapping[str, str], body: Sequence[bytes]) -> None:
        """Send a request. Raises OSError; ValueError for an invalid head, before anything is sent."""
        lines = [f"{verb} {target} HTTP/1.1", *[f"{name}: {value}" for name, value in fields.items()]]
        together = "".join(lines)
        if not (together.isprintable() and together.isascii()) or " " in target:
            raise ValueError("the address or a header of the request contains a character that is not allowed there")
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

    def answered(self, verb: str, patience: float) -> Answer:
        """Return the response after its head was read; see `Answer` for `patience`. Raises OSError, HTTPException."""
        answer = Answer(self.sock, method=verb, patience=patience)
        try:
            answer.begin()
        except BaseException:
            answer.close()
            raise
        return answer


class TlsConnection(Connection, http.client.HTTPSConnection):
    """The same with TLS."""


def readable(connection: http.client.HTTPConnection) -> bool:
    """Return whether an idle connection has data to read, which is usually its end."""
    if not hasattr(select, "poll"):
        return bool(select.select([connection.sock], [], [], 0)[0])
    poll = select.poll()  # `select` fails with many open files
    poll.register(connection.sock, select.POLLIN)
    return bool(poll.poll(0))
