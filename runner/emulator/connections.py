"""Limits for a client's connection: the size of its request and the time that it may take.

Only their connections distinguish clients, so if there are too many connections, the one that has waited longest for
its client is closed for a new one. The underlying server (uvicorn) has no such limits with its fast parser.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
import socket
import struct
import sys
import time
from collections.abc import Callable
from itertools import chain
from typing import Any, ClassVar

import httptools
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from runner.emulator import peers
from runner.emulator.settings import ConnectionLimits, EmulatorSettings

_PATIENCE = 1.0
"""Seconds for which a connection can wait for its client before a new one can replace it."""
_CONTINUE = b"HTTP/1.1 100 "
"""Start of the response that tells a client to send its body; the final response follows."""
_LARGE = 16 * 1024
"""Bytes of a response after which other connections get their turn."""
_BARE_ORIGIN = re.compile(rb"https?://[^/?#]+(?=[?#]|\Z)", re.IGNORECASE)
"""A target in absolute form without a path, which means `/` (RFC 9112, section 3.2.2)."""
_STATUS = {
    400: "Bad Request",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}


def server_options(settings: EmulatorSettings) -> dict[str, Any]:
    """Return uvicorn's options for all listeners of an emulator."""
    limits = settings.limits
    if settings.token:
        limits = dataclasses.replace(limits, own_user_only=False)
    return {
        "http": bounded(limits),
        "ws": "none",
        "access_log": False,
        "log_level": "warning",
        "server_header": False,
        # The application adds the date of responses from the emulator's clock.
        "date_header": False,
        # There is no proxy before this server: a header must not change the scheme of its links.
        "proxy_headers": False,
        "timeout_keep_alive": int(limits.idle_seconds),
        "timeout_graceful_shutdown": 5,
    }


def bounded(limits: ConnectionLimits) -> type[HttpToolsProtocol]:
    """Return the protocol of a server with these limits."""
    return type("BoundedProtocol", (_BoundedProtocol,), {"limits": limits})


class _OneWrite:
    """A transport that sends the head of a response together with the first part of its body.

    Two writes wake up the client twice, which takes a third of the time of a small response. ASGI allows this delay.

    Args:
        transport: the transport of the connection.
        sent_much: called when much has been sent since the last call.
    """

    def __init__(self, transport: asyncio.Transport, sent_much: Callable[[], None]) -> None:
        self._transport, self._sent_much = transport, sent_much
        self._head = b""
        self._begun = False
        self._size = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send data after a delayed head; delay a head."""
        if self._begun:
            if self._head:
                head, self._head = self._head, b""
                self._transport.writelines((head, data))
            else:
                self._transport.write(data)
            self._size += len(data)
            if self._size > _LARGE:
                self._size = 0
                self._sent_much()
        elif data.startswith(_CONTINUE):
            self._transport.write(data)
        else:
            self._head, self._begun = data, True

    def end_answer(self) -> None:
        """Send the delayed head; the next write begins another response."""
        self._begun = False
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)

    def close(self) -> None:
        """Close after all data was written."""
        self.end_answer()
        self._transport.close()


class _BoundedProtocol(HttpToolsProtocol):
    limits: ClassVar[ConnectionLimits]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept a connection, or refuse it if there are too many."""
        self._heard = self._begun = time.monotonic()
        self._besides = 0  # bytes since the last part of a body, or the start of the headers
        self._in_headers = False
        self._in_body = False
        self._answering: RequestResponseCycle | None = None
        self._refusal = 400
        self._due: int | None = None  # the status of a refusal that waits for the answers before it
        self._full_since: float | None = None
        super().connection_made(transport)
        self.transport = _OneWrite(transport, self._let_others)  # type: ignore[assignment]
        self._timer = self.loop.call_later(self.limits.look_seconds, self._look)
        if len(self.connections) > self.limits.connections and not self._make_way():
            self._refuse(503)
        elif self.limits.own_user_only and self._is_foreign():
            self.app = _refuse_foreign

    def connection_lost(self, exc: Exception | None) -> None:
        """Remove the connection."""
        self._timer.cancel()
        self.pipeline.clear()
        if self._answering is not None and not self._answering.response_complete:
            # Not the exception of the last one, which is the only one that is reported by itself.
            self._answering.disconnected = True
            self._answering.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Receive data; a header or a trailer without an end is refused here."""
        if self._due is not None:
            return
        self._heard = time.monotonic()
        self._besides += len(data)
        self._data = data
        super().data_received(data)
        if self._besides > self.limits.header_bytes:
            self._refuse(431)

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._begun = time.monotonic()
        self._in_headers = True
        self._besides = 0

    def on_headers_complete(self) -> None:
        """Answer the request, or refuse it if there is too much before its body."""
        if self.parser.should_upgrade():
            return
        self._in_headers = False
        self._besides = 0
        size = len(self.url) + sum(map(len, chain.from_iterable(self.headers)))
        if size > self.limits.header_bytes or len(self.headers) > self.limits.headers:
            self._refusal = 431
            raise ValueError("too many headers")  # ends the parser, which asks for a response of 400
        if self.url[:1] != b"/":
            self.url = _BARE_ORIGIN.sub(rb"\g<0>/", self.url)
        super().on_headers_complete()
        self._in_body = True

    def on_body(self, body: bytes) -> None:
        """Receive a part of the body."""
        self._besides = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End the request."""
        if self.parser.should_upgrade():
            return
        self._besides = 0
        self._in_body = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Continue with the next request, or report what was wrong with the data after this one."""
        self.transport.end_answer()  # type: ignore[attr-defined]
        super().on_response_complete()
        if self._due is not None and not self._unanswered:
            self._say(self._due)

    def send_400_response(self, msg: str) -> None:
        """Refuse data that is not a request, or has too much before its body."""
        self._refuse(self._refusal)

    def pause_writing(self) -> None:
        """Record since when the client accepts no data."""
        self._full_since = time.monotonic()
        super().pause_writing()

    def resume_writing(self) -> None:
        """Continue sending."""
        self._full_since = None
        super().resume_writing()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def _unsupported_upgrade_warning(self) -> None:
        """Parse the request again without its protocol upgrade: Java's client asks each server for HTTP/2.

        The parser has not read its body, and would accept no other request.
        """
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._refuse(400)
            return
        head = [b"%b %b HTTP/%b" % (method, self.url, self.parser.get_http_version().encode())]
        for name, value in self.headers:
            if name == b"connection":
                value = b",".join(each for each in value.split(b",") if each.strip().lower() != b"upgrade")
            if name != b"upgrade":
                head.append(b"%b: %b" % (name, value))
        upgrade = sys.exc_info()[1]
        assert isinstance(upgrade, httptools.HttpParserUpgrade)  # noqa: S101
        self.parser = httptools.HttpRequestParser(self)
        self._data = b"\r\n".join([*head, b"", self._data[upgrade.args[0] :]])
        super().data_received(self._data)

    def _let_others(self) -> None:
        """Delay this response for a round of the event loop, so that others get their turn and disconnects are noticed.

        A response whose parts are all available would otherwise never wait.
        """
        self.flow.pause_writing()
        self.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        if self._full_since is None:
            self.flow.resume_writing()

    def _is_foreign(self) -> bool:
        here = self.server
        return bool(self.client and here and here[1]) and peers.is_foreign(self.client, (here[0], here[1]))  # type: ignore[arg-type,index]

    @property
    def _unanswered(self) -> bool:
        return self._answering is not None and not self._answering.response_complete

    @property
    def _awaits_client(self) -> bool:
        """Return whether the client must act: begin a request, or continue with a body."""
        return not self._unanswered or (self.cycle.more_body and not self.flow.read_paused)

    def _make_way(self) -> bool:
        """Close the connection that has waited longest for its client; return whether there was one."""
        now = time.monotonic()
        waiting = [
            one
            for one in self.connections
            if isinstance(one, _BoundedProtocol) and one is not self and one._awaits_client
        ]
        oldest = min(waiting, key=lambda one: one._heard, default=None)
        if oldest is None or now - oldest._heard < _PATIENCE:
            return False
        oldest._reset()
        self.connections.discard(oldest)
        return True

    def _look(self) -> None:
        """Close a connection that has taken too long."""
        if self.transport.is_closing():
            return
        self._timer = self.loop.call_later(self.limits.look_seconds, self._look)
        now, limits = time.monotonic(), self.limits
        if not self._unanswered:
            if self._in_headers:
                if now - self._begun > limits.header_seconds:
                    self._refuse(408)
            elif now - self._heard > limits.idle_seconds:
                self.transport.close()
        elif now - self._begun > limits.request_seconds:
            self._reset()
        elif self._awaits_client and now - self._heard > limits.stall_seconds:
            self._reset() if self.cycle.response_started else self._refuse(408)
        elif self._full_since is not None and now - self._full_since > limits.stall_seconds:
            self._reset()

    def _reset(self) -> None:
        """Close without sending pending data, which the system would otherwise keep for a client that does not read."""
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def _refuse(self, status: int) -> None:
        """Answer with an error of the server itself after all previous responses, and close."""
        if self.transport.is_closing() or self._due is not None:
            return
        if self._in_body and self.cycle is self._answering:
            # Its response has started or is complete: nothing can be added.
            self.transport.close() if self.cycle.response_started else self._say(status)
        elif self._unanswered:
            if self._in_body:
                self.pipeline.popleft()
            self._due = status
            self.flow.pause_reading()
        else:
            self._say(status)

    def _say(self, status: int) -> None:
        if self.transport.is_closing():
            return
        said = json.dumps({"error": {"code": status, "message": _STATUS[status], "status": _RPC[status]}}).encode()
        head = f"HTTP/1.1 {status} {_STATUS[status]}\r\ncontent-type: application/json; charset=UTF-8\r\n"
        head += f"content-length: {len(said)}\r\nconnection: close\r\n\r\n"
        self.transport.write(head.encode() + said)
        self.transport.close()


_RPC = {400: "INVALID_ARGUMENT", 408: "DEADLINE_EXCEEDED", 431: "INVALID_ARGUMENT", 503: "UNAVAILABLE"}
_FOREIGN = (
    b'{"error": {"code": 403, "status": "PERMISSION_DENIED", "message": "This emulator answers the user who started it.'
    b' Another user of this machine needs its token: start it with `runner emulator start --token`."}}'
)


async def _refuse_foreign(_scope: Scope, _receive: Receive, send: Send) -> None:
    headers: list[Any] = [
        (b"content-type", b"application/json; charset=UTF-8"),
        (b"content-length", str(len(_FOREIGN)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": _FOREIGN})
