"""A connection has bounds of size and time, and holds up no other; another user of the machine is not answered."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from runner.emulator import peers
from runner.emulator.server import EmulatorServer
from runner.emulator.settings import ConnectionLimits, EmulatorSettings

LIST = "/storage/v1/b?project=test-connections"
GET = f"GET {LIST} HTTP/1.1\r\nHost: localhost\r\n"
SHORT = ConnectionLimits(
    header_seconds=0.5, idle_seconds=1.0, stall_seconds=0.5, request_seconds=2.0, connections=12, look_seconds=0.05
)


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorServer]:
    """An emulator that waits for nobody."""
    settings = EmulatorSettings(directory=tmp_path_factory.mktemp("impatient"), limits=SHORT)
    with EmulatorServer(settings) as server:
        yield server


def connect(server: EmulatorServer) -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=30)


def status(server: EmulatorServer, request: bytes) -> int:
    """Send a request as it is; return the status of the answer, 0 if the connection is closed without one."""
    with connect(server) as connection:
        try:
            for start in range(0, len(request), 1 << 16):
                connection.sendall(request[start : start + (1 << 16)])
            answer = connection.recv(4096)
        except OSError:
            return 0
    return int(answer.split()[1]) if answer else 0


def alive(server: EmulatorServer) -> bool:
    return httpx.get(server.url + LIST, timeout=120).status_code == 200


def test_the_head_of_an_answer_comes_with_its_body(emulator: EmulatorServer) -> None:
    with connect(emulator) as connection:
        for _ in range(20):
            connection.sendall(f"{GET}\r\n".encode())
            assert connection.recv(1 << 16).endswith(b"}")
        connection.sendall(f"HEAD {LIST} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert connection.recv(1 << 16).endswith(b"\r\n\r\n")


def test_a_client_that_asks_first_is_told_to_go_on(emulator: EmulatorServer) -> None:
    with connect(emulator) as connection:
        for _ in range(3):
            connection.sendall(
                b"POST /storage/v1/b?project=test-connections HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
                b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n"
            )
            assert connection.recv(1 << 16) == b"HTTP/1.1 100 Continue\r\n\r\n"
            connection.sendall(b"{}")
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "extra",
    [
        b"X-Long: " + b"a" * (10 << 20) + b"\r\n\r\n",
        b"X-Endless: " + b"a" * (10 << 20),
        b"".join(b"X-%d: a\r\n" % number for number in range(100_000)) + b"\r\n",
        b"X: \r\n" * 300 + b"\r\n",
    ],
    ids=["one long header", "a header without end", "100,000 headers", "300 headers"],
)
def test_headers_are_bounded(emulator: EmulatorServer, extra: bytes) -> None:
    assert status(emulator, GET.encode() + extra) in (0, 431)
    assert alive(emulator)


@pytest.mark.parametrize(
    "trailer", [b"X-Endless: " + b"a" * (10 << 20), b"".join(b"X-%d: a\r\n" % number for number in range(100_000))]
)
def test_trailers_are_bounded(emulator: EmulatorServer, trailer: bytes) -> None:
    upload = "POST /upload/storage/v1/b/no-bucket-here/o?uploadType=media&name=a HTTP/1.1\r\nHost: localhost\r\n"
    chunked = upload.encode() + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n"
    assert status(emulator, chunked + b"X-Short: a\r\n\r\n") == 404
    with connect(emulator) as connection, pytest.raises((ConnectionResetError, BrokenPipeError)):
        connection.sendall(chunked + 20 * trailer)
    assert alive(emulator)


def test_a_refusal_says_why(emulator: EmulatorServer) -> None:
    answer = httpx.get(emulator.url + LIST, headers={"X-Long": "a" * (65 << 10)}, timeout=120)
    assert answer.status_code == 431
    assert answer.json()["error"]["message"] == "Request Header Fields Too Large"
    assert status(emulator, f"GET /{'a' * (65 << 10)} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()) == 431
    assert status(emulator, GET.encode() + b"X: " + b"a" * (60 << 10) + b"\r\n\r\n") == 200


def drip(connection: socket.socket, text: bytes) -> bytes:
    """Send a byte now and then until the server has had enough; return what it says."""
    connection.settimeout(0.05)
    for number in range(600):
        try:
            connection.sendall(text[number % len(text) :][:1])
            return connection.recv(4096)
        except TimeoutError:
            continue
        except OSError:
            return b""
    raise AssertionError("it was never closed")


def test_slow_headers_time_out(impatient: EmulatorServer) -> None:
    with connect(impatient) as connection:
        connection.sendall(GET.encode() + b"X: ")
        assert drip(connection, b"a").startswith(b"HTTP/1.1 408 ")


def test_a_body_that_does_not_come_times_out(impatient: EmulatorServer) -> None:
    with connect(impatient) as connection:
        connection.sendall(b"POST /storage/v1/b?project=p HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{")
        assert connection.recv(4096).startswith(b"HTTP/1.1 408 ")
        assert connection.recv(4096) == b""


def test_a_request_has_an_end_however_it_drips(impatient: EmulatorServer) -> None:
    with connect(impatient) as connection:
        connection.sendall(
            b"POST /storage/v1/b?project=p HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n{"
        )
        assert drip(connection, b" ") == b""


@pytest.mark.parametrize("before", [b"", GET.encode() + b"\r\n"], ids=["new", "used"])
def test_an_idle_connection_is_closed(impatient: EmulatorServer, before: bytes) -> None:
    with connect(impatient) as connection:
        connection.sendall(before)
        said = b"".join(iter(lambda: connection.recv(4096), b""))
    assert said.startswith(b"HTTP/1.1 200 ") == bool(before)


def test_an_answer_that_nobody_takes_is_given_up(impatient: EmulatorServer) -> None:
    with httpx.Client(base_url=impatient.url, timeout=120) as client:
        client.post("/storage/v1/b?project=p-taking", json={"name": "bucket-taking"})
        upload = "/upload/storage/v1/b/bucket-taking/o?uploadType=media&name=large"
        client.post(upload, content=bytes(32 << 20)).raise_for_status()
    with connect(impatient) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(b"GET /storage/v1/b/bucket-taking/o/large?alt=media HTTP/1.1\r\nHost: localhost\r\n\r\n")
        _until(lambda: not impatient._server.server_state.connections)  # the test's own server
        received = 0
        with contextlib.suppress(OSError):
            while data := connection.recv(1 << 20):
                received += len(data)
        assert received < 32 << 20


def test_slow_connections_make_way(impatient: EmulatorServer) -> None:
    held = []
    try:
        for _ in range(60):
            connection = connect(impatient)
            connection.sendall(b"GET / HTTP/1.1\r\n")
            held.append(connection)
        _until(lambda: _answers(impatient))
    finally:
        for connection in held:
            connection.close()


def _answers(server: EmulatorServer) -> bool:
    try:
        return httpx.get(server.url + LIST, timeout=120).status_code == 200
    except httpx.TransportError:
        return False


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", 200),
        ("LocalHost:1", 200),
        ("[::1]:8085", 200),
        ("[::1]evil", 421),
        ("[::1].evil.example", 421),
        ("localhost:80:80", 421),
        ("localhost:port", 421),
        ("localhost@evil.example", 421),
        ("localhost/evil", 421),
        ("", 421),
        ("localhost\r\nHost: evil.example", 400),
        ("evil.example\r\nHost: localhost", 400),
        ("localhost\r\nhost: localhost", 400),
    ],
)
def test_one_host_that_is_ours(emulator: EmulatorServer, host: str, expected: int) -> None:
    assert status(emulator, f"GET {LIST} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()) == expected


def test_no_host_is_none(emulator: EmulatorServer) -> None:
    assert status(emulator, f"GET {LIST} HTTP/1.1\r\n\r\n".encode()) == 400


def test_a_websocket_is_no_error_of_the_server(emulator: EmulatorServer) -> None:
    upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: A\r\n\r\n"
    assert status(emulator, (GET + upgrade).encode()) == 200


_ASK = """
import sys, urllib.request, urllib.error
request = urllib.request.Request(sys.argv[1], headers={"Authorization": "Bearer secret"})
try:
    print(urllib.request.urlopen(request).status)
except urllib.error.HTTPError as error:
    print(error.code, error.read().decode())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another user")
@pytest.mark.parametrize(("token", "said"), [(None, "403"), ("secret", "200")])
def test_another_user_needs_the_token(tmp_path: Path, token: str | None, said: str) -> None:
    nobody = 65534
    settings = EmulatorSettings(directory=tmp_path / "state", token=token)
    with EmulatorServer(settings) as server:
        for user, expected in ((nobody, said), (0, "200")):
            command = [sys.executable, "-I", "-c", _ASK, server.url + LIST]
            done = subprocess.run(
                command, user=user, cwd="/", capture_output=True, text=True, timeout=120, check=True, env={}
            )
            assert done.stdout.startswith(expected), done.stdout
        if token is None:
            assert "answers the user who started it" in httpx.get(server.url, timeout=120).text or alive(server)


@pytest.mark.parametrize(
    ("listed", "refused"),
    [("0\n88\n{me}\n4294967294\n", False), ("0\n{me}\n70001\n", True), ("", True)],
    ids=["alone", "somebody else", "ps fails"],
)
def test_beside_other_people_nobody_is_answered(
    listed: str, refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on macOS, with a `ps` that says who is here."""
    settings = EmulatorSettings(directory=tmp_path / "state")
    with EmulatorServer(settings) as server:
        program = tmp_path / "bin" / "ps"
        program.parent.mkdir()
        lines = listed.format(me=os.geteuid())
        program.write_text(f"#!/bin/sh\nprintf '{lines}'\n" if listed else "#!/bin/sh\nexit 1\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
        monkeypatch.setattr(peers, "_looked", None)
        monkeypatch.setattr(sys, "platform", "darwin")
        answer = httpx.get(server.url + LIST, trust_env=False, timeout=120)
        monkeypatch.undo()
    assert (answer.status_code == 403) is refused
    assert ("--token" in answer.text) is refused
