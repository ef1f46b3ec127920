"""A console that runs in a thread, on a socket."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import httpx
import uvicorn

from runner.console.application import build
from runner.console.security import Access, Guard
from runner.console.server import listen
from runner.console.state import Console
from runner.gcp.session import Session
from tests.loopback import NO_TLS


class RunningConsole:
    """A context manager: the console answers between entering and leaving."""

    def __init__(self, session: Session, *, read_only: bool = False) -> None:
        self._socket = listen(0)
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.announced: list[str] = []
        app, self.access = build(session, port=self.port, read_only=read_only, announce=self.announced.append)
        assert isinstance(app, Guard)
        inner: Any = app.app
        self.console: Console = inner.state.console
        config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True)

    def __enter__(self) -> RunningConsole:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._thread.join(20)

    @contextlib.contextmanager
    def client(self) -> Iterator[httpx.Client]:
        """Yield a client with a session, which asks as the console's own pages do."""
        with httpx.Client(base_url=self.url, timeout=60, follow_redirects=True, verify=NO_TLS) as client:
            client.get(self.access.address).raise_for_status()
            client.headers.update({"origin": self.url, "sec-fetch-site": "same-origin"})
            yield client


__all__ = ["Access", "RunningConsole"]
