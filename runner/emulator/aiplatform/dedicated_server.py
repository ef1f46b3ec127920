"""The server of dedicated endpoints, on a separate port with TLS."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn

from runner.emulator.aiplatform.predictions import DEDICATED_METHODS
from runner.emulator.app import EmulatorApp
from runner.emulator.connections import server_options
from runner.emulator.context import Emulator
from runner.emulator.routing import ApiRequest


class DedicatedApp(EmulatorApp):
    """Answers predictions of dedicated endpoints."""

    def __init__(self, emulator: Emulator) -> None:
        super().__init__(emulator, DEDICATED_METHODS)

    def _guard(self, request: ApiRequest) -> None:
        # `refuse_shared` compares the host with the endpoint's own.
        request.scope.setdefault("extensions", {})["dedicated"] = {}
        self._guard_origin_and_token(request)


class DedicatedServer:
    """The TLS listener in the server's event loop."""

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
        """Return when it is ready."""
        self._task = asyncio.create_task(self._server.serve([self._listener]))
        while not self._server.started:
            if self._task.done():
                self._task.result()
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        """Stop listening."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task


class _Quiet(uvicorn.Server):
    """Leaves signals to the server of the shared host."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture no signals."""
        yield
