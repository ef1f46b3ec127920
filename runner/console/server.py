"""Serve the console on a loopback port until it is stopped."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable

import uvicorn

from runner.console.application import build
from runner.errors import ConfigurationError
from runner.gcp.session import Session

DEFAULT_PORT = 8090
_STOP_SECONDS = 3


def serve(
    session: Session,
    *,
    port: int | None = None,
    read_only: bool = False,
    ready: Callable[[str], None],
    announce: Callable[[str], None] | None = None,
) -> None:
    """Serve the console until the process is interrupted.

    Args:
        session: the connection.
        port: port on 127.0.0.1; None uses the default one, or a free one if that is taken.
        read_only: refuse every change.
        ready: called with the one-time address when the port is ready.
        announce: called with each next address after the previous one was used.

    Raises:
        ConfigurationError: the port is taken.
    """
    listening = listen(port)
    taken = listening.getsockname()[1]
    app, access = build(session, port=taken, read_only=read_only, announce=announce)
    config = uvicorn.Config(
        app,
        log_level="critical",  # the application logs bugs; an interrupted request is not a bug
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_STOP_SECONDS,
    )
    ready(access.address)
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listening])


def listen(port: int | None) -> socket.socket:
    """Return a socket that listens on loopback. Raises ConfigurationError."""
    for wanted in (DEFAULT_PORT, 0) if port is None else (port,):
        found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind(("127.0.0.1", wanted))
            found.listen(128)
        except OSError as error:
            found.close()
            problem = f"port {wanted} of 127.0.0.1: {error.strerror}"
            continue
        return found
    raise ConfigurationError(problem, hint="choose another with --port, or 0 for any free one")
