"""Dedicated endpoints: a host name of their own, reached by TLS on a port of its own, which answers nothing else.

There are some only if the server has a certificate; the names must lead to this machine, which is the caller's matter
(`localhost` does everywhere).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn

from runner.emulator.app import EmulatorApp
from runner.emulator.connections import server_options
from runner.emulator.context import Emulator
from runner.emulator.errors import ApiError
from runner.emulator.routing import ApiRequest
from runner.emulator.settings import EmulatorSettings


def dns(settings: EmulatorSettings, name: str) -> str:
    """Return host and port of an endpoint, by its full name; "" if the server has no certificate."""
    if not settings.dedicated_certificate:
        return ""
    _, number, _, location, _, identity = name.split("/")
    host = settings.dedicated_host
    for key, value in (("endpoint", identity), ("location", location), ("number", number)):
        host = host.replace(f"{{{key}}}", value)
    return f"{host}:{settings.dedicated_port}"


def shown(settings: EmulatorSettings, endpoint: dict[str, Any]) -> dict[str, Any]:
    """Return an endpoint as it is shown: a dedicated one with its name."""
    name = dns(settings, endpoint["name"]) if endpoint.get("dedicatedEndpointEnabled") else ""
    return {**endpoint, "dedicatedEndpointDns": name} if name else endpoint


def refuse_shared(request: ApiRequest, endpoint: dict[str, Any]) -> None:
    """Refuse a prediction that comes to the wrong host. Raises ApiError FAILED_PRECONDITION."""
    name = shown(request.emulator.settings, endpoint).get("dedicatedEndpointDns", "")
    own = request.scope.get("extensions", {}).get("dedicated") is not None
    if own and request.headers.get("host", "") != name:
        raise ApiError("PERMISSION_DENIED", "The endpoint is not served at this host.", http=421)
    if name and not own:
        raise ApiError(
            "FAILED_PRECONDITION",
            "This endpoint is a dedicated endpoint and cannot be accessed through the shared host. Please access the "
            f"endpoint using its dedicated DNS name '{name}'.",
        )


class DedicatedApp(EmulatorApp):
    """Answers predictions of dedicated endpoints."""

    def __init__(self, emulator: Emulator) -> None:
        from runner.emulator.aiplatform.predictions import DEDICATED_METHODS

        super().__init__(emulator, DEDICATED_METHODS)

    def _guard(self, request: ApiRequest) -> None:
        # Which host it is, `refuse_shared` compares with the endpoint's own.
        request.scope.setdefault("extensions", {})["dedicated"] = {}
        self._guard_origin_and_token(request)


class DedicatedServer:
    """The TLS listener, inside the event loop of the server."""

    def __init__(self, emulator: Emulator, listener: socket.socket) -> None:
        settings = emulator.settings
        self._server = _Quiet(
            uvicorn.Config(
                DedicatedApp(emulator),
                lifespan="off",
                ssl_certfile=str(settings.dedicated_certificate),
                ssl_keyfile=str(settings.dedicated_key),
                **server_options(settings),
            )
        )
        self._listener = listener
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Return once it answers."""
        self._task = asyncio.create_task(self._server.serve([self._listener]))
        while not self._server.started:
            if self._task.done():
                self._task.result()
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        """Stop answering."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task


class _Quiet(uvicorn.Server):
    """Leaves signals to the server of the shared host."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield
