"""Start and stop one emulator: in this process (`serve`), or in a thread for tests (`EmulatorServer`)."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import gc
import ipaddress
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from runner.emulator import services
from runner.emulator.aiplatform.dedicated_server import DedicatedServer
from runner.emulator.app import EmulatorApp
from runner.emulator.clock import Clock, compressed
from runner.emulator.connections import server_options
from runner.emulator.context import Emulator
from runner.emulator.engine.launcher import Launcher
from runner.emulator.fault_register import FILE_NAME, Faults
from runner.emulator.recording import recorded
from runner.emulator.settings import EmulatorSettings
from runner.emulator.store import Store


class StateInUseError(Exception):
    """Another server has locked the state directory."""


class UnsafeAddressError(Exception):
    """The address is not loopback and there is no token."""


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Lock the state directory. Raises StateInUseError."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name in ("blobs", "jobs", "deployments"):
        (directory / name).mkdir(exist_ok=True, mode=0o700)
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise StateInUseError(f"another emulator uses {directory}") from error
    try:
        yield
    finally:
        os.close(descriptor)


def _check_address(settings: EmulatorSettings) -> None:
    loopback = settings.host == "localhost" or ipaddress.ip_address(settings.host).is_loopback
    if not loopback and not settings.token:
        raise UnsafeAddressError(f"{settings.host} is reachable from other machines: give a token as well")


def _bind(settings: EmulatorSettings, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((settings.host, port))
    listener.listen(1024)
    return listener


def _bind_dedicated(settings: EmulatorSettings) -> tuple[EmulatorSettings, socket.socket | None]:
    """Return the settings with the port of dedicated endpoints, and its socket; None if there are no such endpoints."""
    if settings.dedicated_certificate is None:
        return settings, None
    listener = _bind(settings, settings.dedicated_port)
    return dataclasses.replace(settings, dedicated_port=listener.getsockname()[1]), listener


class _Lifespan:
    """Runs the services' start and stop in the server's event loop, before and after it serves."""

    def __init__(
        self,
        emulator: Emulator,
        dedicated: socket.socket | None = None,
        is_asked_to_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.emulator = emulator
        self._is_asked_to_stop = is_asked_to_stop
        self.dedicated = dedicated
        self.app = recorded(EmulatorApp(emulator, services.all_methods()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            dedicated: DedicatedServer | None = None
            try:
                await services.start(self.emulator)
                if self.dedicated is not None:
                    dedicated = DedicatedServer(self.emulator, self.dedicated)
                    await dedicated.start()
            except Exception as error:
                await send({"type": "lifespan.startup.failed", "message": repr(error)})
                raise
            if self._is_asked_to_stop():
                signal.raise_signal(signal.SIGTERM)  # from here on, the server itself handles it
            await send({"type": "lifespan.startup.complete"})
            await receive()
            if dedicated is not None:
                await dedicated.stop()
            await services.stop(self.emulator)
            await send({"type": "lifespan.shutdown.complete"})
            return
        await self.app(scope, receive, send)


def _uvicorn_config(app: ASGIApp, settings: EmulatorSettings) -> uvicorn.Config:
    return uvicorn.Config(app, lifespan="on", backlog=1024, **server_options(settings))


class EmulatorServer:
    """An emulator in a thread of this process.

    Use it as a context manager; `url` is set when it is ready. Stopping leaves the state directory like a crash, except
    for the open transaction, so that a test of restarts needs nothing special.

    Raises:
        StateInUseError: another server has locked the directory.
        UnsafeAddressError: the host is not loopback and there is no token.
    """

    def __init__(self, settings: EmulatorSettings, *, clock: Clock | None = None) -> None:
        self.settings = settings
        self.clock = clock or Clock()
        self.url = ""
        self.emulator: Emulator

    def __enter__(self) -> EmulatorServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Bind, start the thread and return when the server is ready."""
        _check_address(self.settings)
        self._stack = contextlib.ExitStack()
        self._stack.enter_context(_locked(self.settings.directory))
        settings, dedicated = _bind_dedicated(self.settings)
        self.emulator = open_emulator(settings, self.clock)
        self._stack.callback(self.emulator.store.close)
        listener = _bind(settings, settings.port)
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self._server = uvicorn.Server(_uvicorn_config(_Lifespan(self.emulator, dedicated), settings))
        self._thread = threading.Thread(target=self._server.run, args=([listener],), name="emulator", daemon=True)
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                self._stack.close()
                raise RuntimeError("the emulator did not start; its log says why")
            time.sleep(0.01)

    def stop(self) -> None:
        """Stop serving, then close the state."""
        self._server.should_exit = True
        self._thread.join()
        self._stack.close()


def open_emulator(settings: EmulatorSettings, clock: Clock) -> Emulator:
    """Open the state of an emulator. The caller holds the directory's lock and closes the store."""
    faults = Faults(settings.faults, settings.directory / FILE_NAME)
    store = Store(settings.directory / "state.sqlite3", services.schemas())
    if settings.time_scale != 1:
        clock = compressed(store, settings.time_scale)
    return Emulator(
        settings=settings,
        store=store,
        clock=clock,
        launcher=Launcher(training_threads=settings.training_threads),
        faults=faults,
    )


def serve(
    settings: EmulatorSettings,
    *,
    ready_file: Path | None = None,
    on_ready: Callable[[str], None] | None = None,
    is_asked_to_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Run an emulator in this process until SIGINT or SIGTERM.

    After the port is bound, the URL is written atomically to `ready_file`, for the process that started this one, and
    `on_ready` is called with it. `is_asked_to_stop` returns whether a SIGTERM arrived before the server handled
    signals.
    """
    _check_address(settings)
    with _locked(settings.directory):
        settings, dedicated = _bind_dedicated(settings)
        emulator = open_emulator(settings, Clock())
        listener = _bind(settings, settings.port)
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        url = f"http://{host}:{listener.getsockname()[1]}"
        if ready_file is not None:
            aside = ready_file.with_name(ready_file.name + ".new")
            aside.write_text(url)
            aside.replace(ready_file)
        if on_ready is not None:
            on_ready(url)
        application = _Lifespan(emulator, dedicated, is_asked_to_stop)
        gc.freeze()  # modules and definitions are permanent: the garbage collector need not scan them
        try:
            uvicorn.Server(_uvicorn_config(application, settings)).run([listener])
        finally:
            emulator.store.close()
