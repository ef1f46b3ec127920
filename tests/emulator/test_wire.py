"""Requests byte by byte: each is answered once, in its turn, with its own answer, or refused; nothing is left over."""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from runner.emulator.routing import ApiRequest
from runner.emulator.server import EmulatorServer
from runner.emulator.settings import EmulatorSettings

Answer = tuple[int, str]
"""A status, and the object that the answer names."""
_NAME = re.compile(r"(?<=[/\"])wire-\w+")
HOST = "Host: localhost\r\n"
UPGRADE = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
CHUNKED = "Transfer-Encoding: chunked\r\n"


def get(name: str, *headers: str, verb: str = "GET") -> str:
    """Return a request for an object that is not there: the answer names it."""
    return f"{verb} /storage/v1/b/bucket-wire/o/{name} HTTP/1.1\r\n{HOST}{''.join(headers)}\r\n"


def post(name: str, *headers: str, body: str = "", version: str = "1.1") -> str:
    """Return an upload of an object: the answer names it."""
    path = f"/upload/storage/v1/b/bucket-wire/o?uploadType=media&name={name}"
    return f"POST {path} HTTP/{version}\r\n{HOST}{''.join(headers)}\r\n{body}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorServer]:
    """An emulator with an object."""
    with EmulatorServer(EmulatorSettings(directory=tmp_path_factory.mktemp("wire"))) as running:
        with httpx.Client(base_url=running.url, timeout=120) as client:
            client.post("/storage/v1/b?project=test-wire", json={"name": "bucket-wire"}).raise_for_status()
            upload = "/upload/storage/v1/b/bucket-wire/o?uploadType=media&name=wire-here"
            client.post(upload, content=b"x" * 1000).raise_for_status()
        yield running


@pytest.fixture(autouse=True)
def nothing_left(server: EmulatorServer) -> Iterator[None]:
    """Wait until nobody is being answered, and as many sockets are open as before."""
    state = server._server.server_state  # the test's own server
    before = _sockets()
    yield
    deadline = time.monotonic() + 60
    while state.tasks or state.connections or _sockets() > before:
        assert time.monotonic() < deadline, (state.tasks, state.connections, _sockets(), before)
        time.sleep(0.01)


def _sockets() -> int:
    count = 0
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            count += str(link.readlink()).startswith("socket:")
    return count


def connect(server: EmulatorServer) -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=60)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


class _Stream:
    """Gives `http.client` one stream for all answers of a connection."""

    def __init__(self, connection: socket.socket) -> None:
        self._file = connection.makefile("rb")

    def makefile(self, _mode: str) -> _Stream:
        return self

    def close(self) -> None:
        """Stay open for the next answer."""

    def __getattr__(self, name: str) -> object:
        return getattr(self._file, name)


def answers(connection: socket.socket, verbs: list[str]) -> Iterator[Answer]:
    """Yield the answers to requests of these methods; fewer where the connection ends."""
    stream: Any = _Stream(connection)
    for verb in verbs:
        answer = http.client.HTTPResponse(stream, method=verb)
        try:
            answer.begin()
            body = answer.read().decode()
        except (http.client.BadStatusLine, http.client.IncompleteRead, ConnectionResetError):
            return
        named = _NAME.search(body)
        yield answer.status, named[0] if named else ""


def say(server: EmulatorServer, text: str, verbs: list[str], *, half_closed: bool = False) -> list[Answer]:
    """Send a text as it is and return what is answered."""
    with connect(server) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(text.encode("latin-1"))
            if half_closed:
                connection.shutdown(socket.SHUT_WR)
        return list(answers(connection, verbs))


A, B, C = "wire-a", "wire-b", "wire-c"
FINE = (404, A)
HERE = (200, "wire-here")
PIPELINE = "".join(
    [
        get("wire-1"),
        post("wire-2", "Content-Length: 5\r\n", body="hello"),
        get("wire-3", verb="HEAD"),
        post("wire-4", CHUNKED, body="3\r\nabc\r\n1;extension=1\r\nd\r\n0\r\nTrailer: 1\r\n\r\n"),
        get("wire-5", UPGRADE),
        post("wire-6", UPGRADE, "Content-Length: 5\r\n", body="GET /"),
        post("wire-7", "Expect: 100-continue\r\nContent-Length: 2\r\n", body="{}"),
        f"GET http://localhost/storage/v1/b/bucket-wire/o/wire-8 HTTP/1.1\r\n{HOST}\r\n",
        get("wire-here?alt=media", "Range: bytes=0-1\r\n"),
        get("wire-here?ifGenerationNotMatch=0&ifMetagenerationNotMatch=1"),
        get("wire-2", verb="DELETE"),
        get("wire-12", "Connection: close\r\n"),
    ]
)
VERBS = re.findall(r"(GET|POST|HEAD|DELETE) \S+ HTTP/1", PIPELINE)
EXPECTED = [
    (404, "wire-1"),
    (200, "wire-2"),
    (404, ""),
    (200, "wire-4"),
    (404, "wire-5"),
    (200, "wire-6"),
    (200, "wire-7"),
    (404, "wire-8"),
    (206, ""),
    (304, ""),
    (204, ""),
    (404, "wire-12"),
]


def test_a_pipeline_is_answered_in_order(server: EmulatorServer) -> None:
    assert say(server, PIPELINE, VERBS) == EXPECTED
    for name, data in (("wire-4", "abcd"), ("wire-6", "GET /"), ("wire-7", "{}")):
        assert httpx.get(f"{server.url}/storage/v1/b/bucket-wire/o/{name}?alt=media", timeout=120).text == data


def test_a_half_closed_connection_gets_its_own_answers_or_none(server: EmulatorServer) -> None:
    """Or a refusal: to a system that asks whose a connection is, one that ends before that may be nobody's."""
    found = say(server, PIPELINE, VERBS, half_closed=True)
    assert found in (EXPECTED[: len(found)], [(403, "")])


def test_a_request_may_come_byte_by_byte(server: EmulatorServer) -> None:
    with connect(server) as connection:
        for byte in PIPELINE.encode():
            connection.sendall(bytes([byte]))
        assert list(answers(connection, VERBS)) == EXPECTED


@pytest.mark.parametrize("part", range(4))
def test_a_request_may_be_split_anywhere(server: EmulatorServer, part: int) -> None:
    text = PIPELINE.encode()
    for at in range(part, len(text), 4 * 5):
        with connect(server) as connection:
            connection.sendall(text[:at])
            connection.sendall(text[at:])
            assert list(answers(connection, VERBS)) == EXPECTED, text[:at]


REFUSED = {
    "two lengths": post(A, "Content-Length: 2\r\nContent-Length: 3\r\n", body="{}x"),
    "length and chunks": post(A, "Content-Length: 5\r\n", CHUNKED, body="0\r\n\r\n"),
    "chunks and length": post(A, CHUNKED, "Content-Length: 5\r\n", body="0\r\n\r\n"),
    "length with a sign": post(A, "Content-Length: +2\r\n", body="{}"),
    "negative length": post(A, "Content-Length: -1\r\n"),
    "length of many digits": post(A, "Content-Length: 99999999999999999999999\r\n", body="{}"),
    "list of lengths": post(A, "Content-Length: 2, 2\r\n", body="{}"),
    "empty length": post(A, "Content-Length: \r\n"),
    "unknown coding": post(A, "Transfer-Encoding: xchunked\r\n", body="0\r\n\r\n"),
    "chunks that are not last": post(A, "Transfer-Encoding: chunked, gzip\r\n", body="0\r\n\r\n"),
    "chunks twice": post(A, CHUNKED, CHUNKED, body="0\r\n\r\n"),
    "space before the colon": post(A, "Transfer-Encoding : chunked\r\n", body="0\r\n\r\n"),
    "chunk size of letters": post(A, CHUNKED, body="zz\r\n{}\r\n0\r\n\r\n"),
    "chunk size with 0x": post(A, CHUNKED, body="0x2\r\n{}\r\n0\r\n\r\n"),
    "chunk size that overflows": post(A, CHUNKED, body="f" * 17 + "\r\n{}\r\n0\r\n\r\n"),
    "chunk without an end": post(A, CHUNKED, body="2\r\n{}0\r\n\r\n"),
    "chunk ended by LF": post(A, CHUNKED, body="2\n{}\n0\n\n"),
    "LF alone": get(A).replace("\r\n", "\n"),
    "folded header": get(A, "X: a\r\n b\r\n"),
    "NUL in a header": get(A, "X: a\0b\r\n"),
    "space in a name": get(A, "X y: a\r\n"),
    "no name": get(A, ": a\r\n"),
    "no colon": get(A, "abc\r\n"),
    "no path": f"GET ?x HTTP/1.1\r\n{HOST}\r\n",
    "bytes in a path": f"GET /\xc3\xa9 HTTP/1.1\r\n{HOST}\r\n",
    "unknown method": f"FOO / HTTP/1.1\r\n{HOST}\r\n",
    "tunnel": f"CONNECT localhost:1 HTTP/1.1\r\n{HOST}\r\n",
    "TLS": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "HTTP/2": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}


@pytest.mark.parametrize("wrong", REFUSED)
@pytest.mark.parametrize("fault", ["", "X-Emulator-Fault: delay=0.05\r\n"], ids=["", "slow"])
def test_what_is_no_request_is_refused_after_those_before_it(server: EmulatorServer, wrong: str, fault: str) -> None:
    text = REFUSED[wrong]
    verb = text.split(" ", 1)[0]
    assert say(server, text + get(C), [verb, "GET"]) == [(400, "")]
    assert say(server, get(A, fault) + get(B, fault) + text + get(C), ["GET", "GET", verb, "GET"]) == [
        (404, A),
        (404, B),
        (400, ""),
    ]


LONG = {
    "header": get(A, f"X: {'a' * 70_000}\r\n"),
    "path": get(f"{A}{'a' * 70_000}"),
}


@pytest.mark.parametrize("part", LONG)
def test_what_is_too_long_is_refused_after_those_before_it(server: EmulatorServer, part: str) -> None:
    slow = get(B, "X-Emulator-Fault: delay=0.05\r\n")
    found = say(server, slow + LONG[part], ["GET", "GET"])
    assert found == [(404, B), (431, "")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (get(A).replace("1.1", "1.0") + get(B), [FINE]),
        (get(A, "Connection: close\r\n") + get(B), [FINE]),
        (post("wire-made", CHUNKED, body="0\r\n\r\n", version="1.0") + get(B), [(200, "wire-made")]),
        (f"GET http://localhost HTTP/1.1\r\n{HOST}Accept: application/json\r\n\r\n" + get(B), [(400, ""), (404, B)]),
        (
            f"GET HTTP://localhost?a=b HTTP/1.1\r\n{HOST}Accept: application/json\r\n\r\n" + get(B),
            [(400, ""), (404, B)],
        ),
        (f"OPTIONS * HTTP/1.1\r\n{HOST}\r\n" + get(B), [(404, ""), (404, B)]),
        ("\r\n\r\n" + get(A) + get(B), [FINE, (404, B)]),
        (get(A, "Content-Length: 3\r\n") + "abc" + get(B), [FINE, (404, B)]),
    ],
    ids=[
        "1.0",
        "close",
        "1.0 in chunks",
        "no path",
        "no path but a query",
        "asterisk",
        "empty lines",
        "GET with a body",
    ],
)
def test_odd_requests_are_answered(server: EmulatorServer, text: str, expected: list[Answer]) -> None:
    assert say(server, text, ["GET"] * len(expected)) == expected


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("status=503", [(503, ""), (404, B)]),
        ("status-after=503", [(503, ""), (404, B)]),
        ("delay=0.05", [HERE, (404, B)]),
        ("drop", []),
        ("drop=reset", []),
        ("drop-after", []),
        ("drop,after=4", []),
        ("delay=0.05,after=4", [HERE, (404, B)]),
    ],
)
@pytest.mark.parametrize("body", [False, True], ids=["", "body"])
def test_a_fault_breaks_its_own_request(server: EmulatorServer, fault: str, expected: list[Answer], body: bool) -> None:
    header = f"X-Emulator-Fault: {fault}\r\n"
    first = post("wire-here", header, "Content-Length: 5\r\n", body="hello") if body else get("wire-here", header)
    assert say(server, first + get(B) + get(C), ["GET", "GET"]) == expected
    assert say(server, get(B), ["GET"]) == [(404, B)]


_NAMES = st.sampled_from([b"host", b"Host", b"x-a", b"X-A", b"content-type", b"\xe9t\xe9", b"x", b""])
_VALUES = st.one_of(st.binary(max_size=8), st.sampled_from([b"", b" ", b"a,b", b"\xff\x00"]))


@given(st.lists(st.tuples(_NAMES.map(bytes.lower), _VALUES), max_size=8), st.lists(_NAMES, max_size=4))
def test_headers_are_found_as_starlette_finds_them(pairs: list[tuple[bytes, bytes]], further: list[bytes]) -> None:
    scope = {"type": "http", "headers": pairs}
    found, expected = ApiRequest(scope).headers, Headers(scope=scope)
    asked = [name.decode("latin-1") for name in [*(name for name, _ in pairs), *further]]
    for name in [*asked, *(name.upper() for name in asked)]:
        assert (name in found) is (name in expected)
        assert found.get(name) == expected.get(name)
        assert found.get(name, "-") == expected.get(name, "-")
        assert found.getlist(name) == expected.getlist(name)
        if name in expected:
            assert found[name] == expected[name]
        else:
            with pytest.raises(KeyError):
                found[name]
    assert (found.keys(), found.values(), found.items()) == (expected.keys(), expected.values(), expected.items())
    assert (found.raw, len(found), found) == (expected.raw, len(expected), expected)
    assert list(found) == list(expected)
    assert dict(found) == dict(expected)
