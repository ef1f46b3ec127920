"""An answer of many small pieces waits for its client, and ends with it."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path

import pytest
import uvicorn

from runner.emulator.app import EmulatorApp
from runner.emulator.clock import Clock
from runner.emulator.connections import server_options
from runner.emulator.routing import ApiRequest, Method, StreamedResponse
from runner.emulator.server import open_emulator
from runner.emulator.settings import EmulatorSettings

REQUEST = b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n"
PIECE = b"data: " + b"a" * 94
ALL = 32 << 20
"""Bytes of the whole answer."""
KERNEL = 16 << 20
"""More bytes than the system takes for a client that reads nothing."""


class Answering:
    """A method whose answers are small pieces that are ready at once."""

    def __init__(self) -> None:
        self.produced = 0
        self.ended = threading.Event()

    async def __call__(self, request: ApiRequest) -> StreamedResponse:
        """Answer."""
        return StreamedResponse(self.pieces(), 200, {}, "text/plain")

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """Yield the answer, and count it."""
        try:
            while self.produced < ALL:
                self.produced += len(PIECE)
                yield PIECE
        finally:
            self.ended.set()


@pytest.fixture
def answering() -> Answering:
    return Answering()


@pytest.fixture
def client(answering: Answering, tmp_path: Path) -> Iterator[socket.socket]:
    """A connection to an emulator that has this one method: it has asked, and takes little at a time."""
    settings = EmulatorSettings(directory=tmp_path)
    emulator = open_emulator(settings, Clock())
    app = EmulatorApp(emulator, [Method("emulator.streams.get", "GET", "/stream", answering)])
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as connection:
        server = uvicorn.Server(uvicorn.Config(app, lifespan="off", **server_options(settings)))
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            connection.settimeout(120)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(listener.getsockname())
            connection.sendall(REQUEST)
            yield connection
        finally:
            connection.close()
            server.should_exit = True
            thread.join()
            emulator.store.close()


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _at_rest(answering: Answering) -> bool:
    """Tell whether nothing has been produced for a while: it waits, or is at its end."""
    before = answering.produced
    time.sleep(0.3)
    return answering.produced == before > 0


def test_small_pieces_wait_for_a_client_that_takes_none(answering: Answering, client: socket.socket) -> None:
    _until(lambda: _at_rest(answering))
    assert answering.produced < KERNEL
    assert not answering.ended.is_set()
    taken = client.recv(1 << 16)
    assert taken.startswith(b"HTTP/1.1 200 OK\r\n")
    assert PIECE in taken


def test_all_pieces_arrive_in_order(answering: Answering, client: socket.socket) -> None:
    size, last = 0, b""
    while not last.endswith(b"\r\n0\r\n\r\n"):
        data = client.recv(1 << 20)
        assert data
        size, last = size + len(data), (last + data)[-200:]
    assert answering.ended.wait(60)
    assert size > answering.produced >= ALL


@pytest.mark.parametrize("further", [0, 3], ids=["alone", "pipelined"])
@pytest.mark.parametrize("reset", [False, True], ids=["closes", "resets"])
def test_a_client_that_goes_away_ends_the_producer(
    answering: Answering, client: socket.socket, reset: bool, further: int
) -> None:
    client.sendall(further * REQUEST)
    client.recv(1 << 16)
    if reset:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    with contextlib.suppress(OSError):
        client.close()
    assert answering.ended.wait(60)
    assert answering.produced < ALL
