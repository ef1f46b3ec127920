"""Faults in the middle of a request's or a response's data: cut off, refused or stalled after a number of bytes."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runner.emulator.errors import ApiError
from runner.emulator.faults import Fault
from runner.emulator.routing import ApiRequest

_BEGIN = re.compile(r"bytes\s+(\d{1,19})-")


class BrokenRequest:
    """Forwards a request's data up to the position of a fault.

    Args:
        request: its data has not been read.
        fault: a fault with `after`, counted from the start of the object of a `Content-Range`.
    """

    def __init__(self, request: ApiRequest, fault: Fault) -> None:
        self.fault = fault
        self._receive = request.receive
        match = _BEGIN.match(request.headers.get("content-range", ""))
        self._at = int(match[1]) if match else 0
        self.fired = False
        self.request = ApiRequest(request.scope, self._next)
        self.request.emulator, self.request.fields = request.emulator, request.fields

    async def _next(self) -> Message:
        if self.fired:
            return {"type": "http.disconnect"}
        message = await self._receive()
        data = message.get("body", b"")
        left = (self.fault.after or 0) - self._at
        self._at += len(data)
        if not 0 < left <= len(data) or not _strikes(self.fault, self.request):
            return message
        if self.fault.action == "delay":
            await asyncio.sleep(self.fault.seconds)
            return message
        self.fired = True
        return {"type": "http.request", "body": data[:left], "more_body": True}


class BrokenAnswer:
    """A response whose data ends or stalls at the position of a fault. A shorter response is unchanged."""

    def __init__(self, answer: ASGIApp, fault: Fault, connection: ApiRequest) -> None:
        self._answer, self._fault, self._connection = answer, fault, connection

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        at = 0

        async def count(message: Message) -> None:
            nonlocal at
            data: bytes = message.get("body", b"")
            left = (self._fault.after or 0) - at
            at += len(data)
            if not 0 < left <= len(data) or not _strikes(self._fault, self._connection):
                await send(message)
            elif self._fault.action == "delay":
                await send({**message, "body": data[:left], "more_body": True})
                await asyncio.sleep(self._fault.seconds)
                await send({**message, "body": data[left:]})
            else:
                await send({**message, "body": data[:left], "more_body": True})
                raise _CutError

        try:
            await self._answer(scope, receive, count)
        except _CutError:
            await hang_up(self._connection, flush=True)


def _strikes(fault: Fault, request: ApiRequest) -> bool:
    if not fault.befalls(request.scope["path"]):
        return False
    request.emulator.faults.save()
    return True


class _CutError(Exception):
    """Ends a response in the middle."""


async def hang_up(request: ApiRequest, *, flush: bool = False, reset: bool = False) -> None:
    """Close the connection like a broken network.

    Args:
        request: as received from the server.
        flush: send pending data first.
        reset: close with a TCP reset.
    """
    cycle: Any = getattr(request.receive, "__self__", None)
    transport = getattr(cycle, "transport", None)
    if transport is None:
        raise ApiError("UNIMPLEMENTED", "Connections cannot be dropped under this server.")
    if reset:
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if flush:
        transport.close()
    else:
        transport.abort()
    while not cycle.disconnected:
        await asyncio.sleep(0.001 if flush else 0)
