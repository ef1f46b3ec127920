"""The REST client against servers that keep, drop, cut, refuse and forward connections."""

from __future__ import annotations

import gzip
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.gcp import rest
from runner.gcp.proxies import proxy_for
from runner.gcp.rest import ConnectError, RestClient, StatusError, TransportError
from tests.local_server import Handler, LocalServer
from tests.serving import certificates


@dataclass(slots=True)
class Echo(LocalServer):
    """Answers with what was asked, and counts connections."""

    seen: list[dict[str, Any]] = field(default_factory=list)
    connections: set[Any] = field(default_factory=set)
    statuses: list[int] = field(default_factory=list)
    """Of the next answers; then 200."""

    def handler(self) -> type[Handler]:
        server = self

        class Asked(Handler):
            def answer(self) -> None:
                server.connections.add(self.client_address)
                request = {
                    "method": self.command,
                    "path": self.path,
                    "headers": {name.lower(): value for name, value in self.headers.items()},
                    "body": self.body().decode(),
                }
                server.seen.append(request)
                self.send_json(server.statuses.pop(0) if server.statuses else 200, request)

        return Asked


@pytest.fixture
def echo() -> Iterator[Echo]:
    with Echo() as server:
        yield server


@contextmanager
def raw(*answers: bytes, after: Callable[[socket.socket], object] | None = None) -> Iterator[str]:
    """Serve each connection one of these answers, then close it."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for answer in answers:
                connection, _ = server.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)
                    if after:
                        after(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        thread.join(5)


@pytest.mark.parametrize(
    ("head", "body", "kept"),
    [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2", "{}", True),
        ("HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2", "{}", True),
        ("HTTP/1.1 200 OK\r\nCONNECTION: Close\r\nContent-Length: 2", "{}", False),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", "1\r\n{\r\n1\r\n}\r\n0\r\n\r\n", True),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close", "2\r\n{}\r\n0\r\n\r\n", False),
        ("HTTP/1.0 200 OK\r\nContent-Length: 2", "{}", False),
        ("HTTP/1.1 200 OK", "{}", False),
    ],
)
def test_whether_a_connection_is_kept(head: str, body: str, kept: bool) -> None:
    with raw(f"{head}\r\n\r\n{body}".encode()) as url, RestClient(url) as client:
        assert client.get("/").content == b"{}"
        assert bool(sum(map(len, client._idle.values()))) == kept


def test_requests_say_what_was_asked_and_share_a_connection(echo: Echo) -> None:
    with RestClient(echo.url, user_agent="us/1") as client:
        client.get("/v1/a b/ü?x=1", params={"filter": 'labels.a="b c" AND d', "pageToken": "a/b+c="})
        client.post("/v1/x", json={"text": "ü"})
        client.post("/v1/x", content=b"onetwo", headers={"Content-Type": "text/plain"})
        client.post("/v1/x:cancel")
        client.request("DELETE", f"{echo.url}/v1/y")
    get, post, pieces, nothing, delete = echo.seen
    query = "x=1&filter=labels.a%3D%22b%20c%22%20AND%20d&pageToken=a%2Fb%2Bc%3D"
    assert get["path"] == f"/v1/a%20b/%C3%BC?{query}"
    assert (get["headers"]["user-agent"], get["headers"]["host"]) == ("us/1", echo.url.removeprefix("http://"))
    assert (post["body"], post["headers"]["content-type"]) == ('{"text":"ü"}', "application/json")
    assert (pieces["body"], pieces["headers"]["content-type"]) == ("onetwo", "text/plain")
    assert nothing["headers"]["content-length"] == "0"
    assert (delete["method"], delete["path"]) == ("DELETE", "/v1/y")
    assert len(echo.connections) == 1


def test_threads_share_a_client(echo: Echo) -> None:
    with RestClient(echo.url) as client, ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: client.get(f"/{number}").json()["path"], range(200)))
    assert found == [f"/{number}" for number in range(200)]
    assert len(echo.connections) <= 8


def test_a_refused_login_is_renewed_once(echo: Echo) -> None:
    asked: list[bool] = []

    def login(*, fresh: bool) -> str:
        asked.append(fresh)
        return f"token-{len(asked)}"

    echo.statuses[:] = [401, 200, 401, 401]
    with RestClient(echo.url, login=login) as client:
        assert client.get("/").json()["headers"]["authorization"] == "Bearer token-2"
        with pytest.raises(StatusError):
            client.get("/").raise_for_status()
    assert asked == [False, True, False, True]
    echo.statuses[:] = [401]
    with RestClient(echo.url, login=lambda *, fresh: "given", renewable=False) as client:
        assert client.get("/").status_code == 401


def test_a_connection_that_the_server_closed_is_not_used_again() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    with raw(answer, answer) as url, RestClient(url) as client:
        assert client.get("/").json() == {}
        threading.Event().wait(0.1)
        assert client.get("/").json() == {}


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 1\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nno header\r\n\r\n{}",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 1000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 20_000,
    ],
)
def test_answers_that_break_are_lost(answer: bytes) -> None:
    with raw(answer) as url, RestClient(url) as client, pytest.raises(TransportError) as caught:
        client.get("/")
    assert not isinstance(caught.value, ConnectError)
    assert str(caught.value)


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", b"{}"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;a=b\r\n{\r\n1\r\n}\r\n0\r\nt: u\r\n\r\n", b"{}"),
        (b"HTTP/1.0 200 OK\r\n\r\n{}", b"{}"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(b"{}", mtime=0), b"{}"),
    ],
)
def test_forms_of_answers(answer: bytes, body: bytes) -> None:
    with raw(answer) as url, RestClient(url) as client:
        assert client.get("/").content == body


@settings(deadline=None)
@given(body=st.binary(max_size=300), cuts=st.lists(st.integers(0, 400), max_size=6), chunk=st.integers(0, 50))
def test_any_body_arrives_however_it_is_cut(body: bytes, cuts: list[int], chunk: int) -> None:
    if chunk:
        pieces = [body[start : start + chunk] for start in range(0, len(body), chunk)]
        coded = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
        message = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + coded
    else:
        message = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    ends = sorted({*(cut for cut in cuts if cut < len(message)), len(message)})
    parts = [message[start:end] for start, end in zip([0, *ends], ends, strict=False)]

    def rest_of_it(connection: socket.socket) -> None:
        for part in parts[1:]:
            connection.sendall(part)

    with raw(parts[0], after=rest_of_it) as url, RestClient(url) as client:
        assert client.get("/").content == body


def test_nobody_there_is_known_to_have_got_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with RestClient(f"http://127.0.0.1:{port}") as client:
        for url in ("/", "ftp://127.0.0.1/", "http://host.invalid/", "http:///x"):
            with pytest.raises(ConnectError):
                client.get(url)


def test_silence_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    done = threading.Event()
    monkeypatch.setattr(rest, "TIMEOUT_SECONDS", 0.2)
    with raw(b"HTTP/1.1 200 OK\r\n", after=lambda _: done.wait(5)) as url, RestClient(url) as client:
        with pytest.raises(TransportError, match="timed out"):
            client.get("/")
        done.set()


def test_a_line_break_never_becomes_a_header(echo: Echo) -> None:
    with RestClient(echo.url, login=lambda *, fresh: "a\r\nx: y") as client, pytest.raises(ConnectError):
        client.get("/")
    with RestClient(echo.url) as client:
        client.get("/a\r\nx: y")
    assert "x" not in echo.seen[0]["headers"]


def test_plain_requests_go_through_the_proxy_that_is_named(echo: Echo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", echo.url.replace("http://", "http://me:p%40ss@"))
    with RestClient("http://elsewhere.invalid") as client:
        asked = client.get("/x").json()
    assert asked["path"] == "http://elsewhere.invalid/x"
    assert asked["headers"]["host"] == "elsewhere.invalid"
    assert asked["headers"]["proxy-authorization"] == "Basic bWU6cEBzcw=="
    monkeypatch.setenv("NO_PROXY", "elsewhere.invalid")
    with RestClient("http://elsewhere.invalid") as client, pytest.raises(ConnectError):
        client.get("/x")
    monkeypatch.delenv("NO_PROXY")
    with RestClient("http://elsewhere.invalid", trust_environment=False) as client, pytest.raises(ConnectError):
        client.get("/x")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LocalHost", "127.9.9.9", "[::1]"])
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("variable", ["{}_proxy", "{}_PROXY", "all_proxy"])
def test_this_machine_is_behind_no_proxy(
    variable: str, scheme: str, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.setenv(variable.format(scheme if variable.islower() else scheme.upper()), "http://proxy.invalid:3128")
    assert proxy_for(urlsplit(f"{scheme}://{host}:8085")) is None
    assert proxy_for(urlsplit(f"{scheme}://elsewhere.invalid")) is not None


def test_tls_goes_through_a_tunnel_and_certificates_are_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = certificates.make(tmp_path, "elsewhere.invalid")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.certificate, certificate.key)
    asked: list[bytes] = []

    def serve(server: socket.socket) -> None:
        for _ in range(3):
            connection, _ = server.accept()
            with connection:
                asked.append(connection.recv(65536))
                if len(asked) == 3:
                    connection.sendall(b"HTTP/1.1 407 Who are you\r\n\r\n")
                    continue
                connection.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
                try:
                    with context.wrap_socket(connection, server_side=True) as secured:
                        secured.recv(65536)
                        secured.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
                except ssl.SSLError:
                    pass

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        monkeypatch.setenv("HTTPS_PROXY", f"127.0.0.1:{server.getsockname()[1]}")
        with RestClient("https://elsewhere.invalid") as client, pytest.raises(ConnectError, match="certificate"):
            client.get("/")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate.authority))
        with RestClient("https://elsewhere.invalid") as client:
            assert client.get("/").json() == {}
        with RestClient("https://elsewhere.invalid") as client, pytest.raises(TransportError, match="407 Who are you"):
            client.get("/")
    assert asked[1].startswith(b"CONNECT elsewhere.invalid:443 HTTP/1.")


def test_lines_come_as_they_are_sent() -> None:
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\na\r\n\xc3\xbc\n\r\n1\r\nb\r\n0\r\n\r\n"
    with raw(answer) as url, RestClient(url) as client, client.stream("POST", "/", json={}) as response:
        assert list(response.lines()) == ["a", "ü", "b"]


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_is_refused_and_no_token_goes_to_another_host(code: int, echo: Echo) -> None:
    answer = f"HTTP/1.1 {code} Elsewhere\r\nLocation: {echo.url}/\r\nContent-Length: 0\r\n\r\n".encode()
    with raw(answer) as url, RestClient(url, login=lambda *, fresh: "secret") as client, pytest.raises(StatusError):
        client.get("/").raise_for_status()
    assert echo.seen == []


@pytest.mark.parametrize(
    "start",
    [
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n",
        b"HTTP/1.1 200 OK\r\nX: ",
        b"HTTP/1.1 200 ",
    ],
)
def test_an_answer_without_end_ends(start: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "MAX_BODY_BYTES", 100_000)

    def on_and_on(connection: socket.socket) -> None:
        with suppress(OSError):  # until the client has had enough
            while True:
                connection.sendall(b"x" * 65536)

    with raw(start, after=on_and_on) as url, RestClient(url) as client, pytest.raises(TransportError):
        client.get("/")


def test_a_body_that_unzips_to_more_than_is_read_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "MAX_BODY_BYTES", 100_000)
    answer = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(bytes(1_000_000))
    with raw(answer) as url, RestClient(url) as client, pytest.raises(TransportError, match="too long"):
        client.get("/")
