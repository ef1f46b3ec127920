"""Answers are read as `http.client` reads them, or refused, and none is taken for the answer to another request."""

from __future__ import annotations

import fcntl
import http.client
import socket
import struct
import termios
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from runner.gcp import rest
from runner.gcp.connections import Answer
from runner.gcp.rest import RestClient, TransportError

REFUSALS = (OSError, http.client.HTTPException, ValueError)
"""What the client takes for a broken connection."""
Read = tuple[int, str, bytes]


@contextmanager
def sent(pieces: Sequence[bytes]) -> Iterator[socket.socket]:
    """Yield a connection on which each piece comes once the one before has been taken, and then the end."""
    ours, theirs = socket.socketpair()
    ours.settimeout(10)

    def send() -> None:
        try:
            for piece in pieces:
                theirs.sendall(piece)
                while len(pieces) > 1 and struct.unpack("i", fcntl.ioctl(ours, termios.FIONREAD, b"\0" * 4))[0]:
                    pass
        except (OSError, ValueError):  # the reader has had enough
            pass
        theirs.close()

    if len(pieces) == 1:
        send()
    else:
        thread = threading.Thread(target=send, daemon=True)
        thread.start()
    try:
        yield ours
    finally:
        ours.close()


def by_us(pieces: Sequence[bytes], verb: str = "GET") -> tuple[Read, dict[str, str], bool] | None:
    """Return what we read, the headers and whether the connection would be kept; None for a refusal."""
    with sent(pieces) as connection:
        answer: Any = Answer(connection, method=verb, patience=5.0)
        try:
            answer.begin()
            body = answer.read_to_end(1 << 20)
        except REFUSALS:
            return None
        finally:
            answer.close()
        return (answer.status, answer.reason, body), answer.headers, not answer.will_close


def by_http_client(data: bytes, verb: str = "GET") -> tuple[Read, http.client.HTTPMessage] | None:
    with sent([data]) as connection:
        answer = http.client.HTTPResponse(connection, method=verb)
        try:
            answer.begin()
            while answer.status < 200:  # of interim answers it skips 100 only
                answer.headers = answer.msg = None  # type: ignore[assignment]
                answer.begin()
            return (answer.status, answer.reason, answer.read()), answer.headers
        except (*REFUSALS, AttributeError):
            return None
        finally:
            answer.close()


END = st.sampled_from(["\r\n", "\r\n", "\r\n", "\n"])
LINES = st.sampled_from(
    [
        *("Content-Length: 5", "content-length:5", "Content-Length: \t5 ", "Content-Length: 05", "Content-Length: 0"),
        *("Content-Length:\r\n 5", "Content-Length: 2", "Transfer-Encoding: chunked", "TRANSFER-ENCODING: Chunked"),
        *("Connection: close", "Connection: keep-alive", "X: a", "X: b", "x-folded: a\r\n\tb\r\n  c", "X:", "A:b:c"),
        *("Date: Thu, 01 Jan 1970 00:10:00 GMT", "X-e: ü", "X: a\u00a0", "~!#$%&'*+-.^_`|: 1"),
    ]
)
ODD = st.sampled_from(
    [
        *(
            "Content-Length: -5",
            "Content-Length: +5",
            "Content-Length: 5, 5",
            "Content-Length: 5;",
            "Content-Length: \u0665",
        ),
        *("Content-Length: 1_0", "Content-Length: 0x5", "Content-Length: 5\u00a0", "Content-Length: " + "9" * 30),
        *(
            "Content-Length : 5",
            " Content-Length: 5",
            "Content-Length",
            "Content\tLength: 5",
            "Content-Length:5\r",
            ":",
        ),
        *("Transfer-Encoding: gzip, chunked", "Transfer-Encoding: identity", "Transfer-Encoding : chunked", "no colon"),
        *(
            "Transfer-Encoding: xchunked",
            "Transfer-Encoding:\x0bchunked",
            "X: a\rContent-Length: 3",
            "X: \x00",
            "",
            " x",
            "X-é: ü",
        ),
    ]
)
STATUS = st.sampled_from(
    [
        "HTTP/1.1 200 OK",
        "HTTP/1.1 200",
        "HTTP/1.0 200 OK",
        "HTTP/1.1  404   Not Found ",
        "HTTP/1.1 308 x",
        "HTTP/1.1 503 ",
    ]
)
ODD_STATUS = st.sampled_from(
    [
        *("HTTP/1.1 204 None", "HTTP/1.1 304 Same", "HTTP/1.1 20 OK", "HTTP/1.1 2000 OK", "HTTP/2 200 OK", "HTTP/1.1"),
        *(
            "http/1.1 200 OK",
            "HTTP/1.1 +20 OK",
            "HTTP/1.1\t200\tOK",
            "ICY 200 OK",
            "HTTP/1.1 99 x",
            "HTTP/1.1 ²00 OK",
            "",
        ),
        *("HTTP/0.9 200 OK", "HTTP/1.1 101 Switching", "HTTP/1.12 200 OK", "HTTP/1.1 200 OK\r"),
    ]
)
CHUNKS = st.sampled_from(
    [
        *(
            "5\r\nhello\r\n0\r\n\r\n",
            "2\r\nhe\r\n3;x=y\r\nllo\r\n000\r\nTrailer: x\r\n\r\n",
            "05 \r\nhello\r\n0\r\n\r\n",
        ),
        *("5\nhello\r\n0\n\n", "0\r\n\r\n", "A\r\n0123456789\r\n0\r\n\r\n"),
    ]
)
ODD_CHUNKS = st.sampled_from(
    [
        *(
            "5\nhello\n0\n\n",
            "-5\r\nhello\r\n0\r\n\r\n",
            "+5\r\nhello\r\n0\r\n\r\n",
            "0x5\r\nhello\r\n0\r\n\r\n",
            "5\r\nhelloXX0\r\n\r\n",
        ),
        *(
            "5\r\nhel",
            "5\r\nhello\r\n",
            "5\r\nhello\r\n0\r\n",
            "5\r\nhello\r\n0\r\nTrailer: x",
            "\r\n5\r\nhello\r\n0\r\n\r\n",
            "g",
        ),
        *("5_0\r\nhello", "f" * 20 + "\r\nhello", "5\r\nhello\r\n0\r\n" + "T: x\r\n" * 200 + "\r\n", "1" * 70_000),
    ]
)
BODY = st.sampled_from(["hello", "hello", "", "hel", "hello and more", "{}"])
VERBS = st.sampled_from(["GET", "GET", "HEAD", "POST"])


@st.composite
def answers(draw: st.DrawFn, *, odd: bool) -> bytes:
    """Return an answer; one that is not odd must be read."""
    interim = draw(st.sampled_from([[], [], ["HTTP/1.1 100 Continue"], ["HTTP/1.1 103 Early Hints", "Link: x"]]))
    status = draw(st.one_of(STATUS, ODD_STATUS) if odd else STATUS)
    lines = draw(st.lists(st.one_of(LINES, ODD) if odd else LINES, max_size=5))
    if not odd:  # one way to tell where it ends
        framing = ("content-length", "transfer-encoding")
        lines = [line for line in lines if not line.lower().startswith(framing)]
        lines += draw(
            st.sampled_from([[], ["Content-Length: 5"], ["Content-Length:\r\n 5"], ["Transfer-Encoding: chunked"]])
        )
    chunked = any(line.lower().replace(" ", "") == "transfer-encoding:chunked" for line in lines)
    body = draw(st.one_of(CHUNKS, ODD_CHUNKS, BODY) if odd else (CHUNKS if chunked else st.just("hello")))
    end = draw(END)
    head = "".join(f"{line}{end}" for line in (*interim, *([""] if interim else []), status, *lines, ""))
    return (head + body).encode("latin-1", "replace")


@settings(max_examples=600, deadline=None)
@given(data=answers(odd=True), verb=VERBS)
@example(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 2\r\n\r\nhello", "GET")
@example(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "GET")
@example(b"HTTP/1.1 200 OK\r\nX: a\rTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nhello", "GET")
@example(b"HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "GET")
def test_what_is_read_is_what_http_client_reads(data: bytes, verb: str) -> None:
    ours = by_us([data], verb)
    event("read" if ours else "refused")
    if ours is None:
        return
    if ours[0][0] in {204, 304}:
        assert ours[0][2] == b""
        return
    theirs = by_http_client(data, verb)
    assert theirs is not None, "it is read here only"
    assert ours[0] == theirs[0]
    for name, value in ours[1].items():
        said = theirs[1].get_all(name) or []
        if len(said) == 1:
            assert value.split() == said[0].split()


@settings(max_examples=300, deadline=None)
@given(data=answers(odd=False), verb=VERBS)
def test_what_is_sound_is_read(data: bytes, verb: str) -> None:
    ours, theirs = by_us([data], verb), by_http_client(data, verb)
    assert ours is not None
    assert theirs is not None
    assert ours[0] == theirs[0]


WHOLE = (
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nhel\r\n02\r\nlo\r\n0\r\nTrailer: x\r\n\r\n",
)


@pytest.mark.parametrize("data", WHOLE, ids=["length", "chunked"])
def test_it_is_the_same_wherever_it_is_split(data: bytes) -> None:
    whole = by_us([data])
    assert whole is not None
    assert (whole[0], whole[2]) == ((200, "OK", b"hello"), True)
    for place in range(1, len(data)):
        assert by_us([data[:place], data[place:]]) == whole, place
    assert by_us([bytes([byte]) for byte in data]) == whole
    for place in range(len(data)):
        assert by_us([data[:place]]) is None or place >= data.index(b"0\r\nTrailer"), "it is cut short"


@contextmanager
def serving(first: Sequence[bytes], then: bytes, other: bytes) -> Iterator[tuple[str, list[int]]]:
    """Answer the first request in pieces; what follows on its connection by `then`, other connections by `other`."""
    seen: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve(connection: socket.socket, number: int) -> None:
            with connection:
                for turn in range(9):
                    if not connection.recv(65536):
                        return
                    seen.append(number)
                    for piece in first if (number, turn) == (0, 0) else [then if number == 0 else other]:
                        connection.sendall(piece)

        def accept() -> None:
            for number in range(9):
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=serve, args=(connection, number), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", seen


def answer(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


LARGE = b"x" * 300_000
FIRST = {
    "length": ("GET", answer(b"mine")),
    "large": ("GET", answer(LARGE)),
    "chunked": ("GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nmine\r\n0\r\n\r\n"),
    "no content": ("DELETE", b"HTTP/1.1 204 No Content\r\n\r\n"),
    "not modified": ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n"),
    "nothing": ("GET", answer(b"")),
    "head": ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"),
    "both": (
        "GET",
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nmine\r\n0\r\n\r\n",
    ),
    "interim behind": ("GET", answer(b"mine")),
}


@pytest.mark.parametrize("rubbish", [b"\r\n", b"x", answer(b"another's"), b"HTTP/1.1 100 Continue\r\n\r\n", b"mine"])
@pytest.mark.parametrize("kind", FIRST)
def test_no_request_is_answered_by_what_came_before_it(kind: str, rubbish: bytes) -> None:
    verb, first = FIRST[kind]
    with serving([first + rubbish], answer(b"another's"), answer(b"its own")) as (url, seen), RestClient(url) as client:
        client.request(verb, "/")
        assert client.get("/").content == b"its own"
    assert seen == [0, 1]


@pytest.mark.parametrize("kind", ["length", "large", "chunked", "no content", "nothing"])
def test_a_connection_whose_answer_is_whole_is_used_again(kind: str) -> None:
    verb, first = FIRST[kind]
    with serving([first], answer(b"its own"), b"") as (url, seen), RestClient(url) as client:
        client.request(verb, "/")
        assert client.get("/").content == b"its own"
    assert seen == [0, 0]


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
SIZES = [CHUNKED + start for start in (b"", b"5;", b"5\r\nhello", b"5\r\nhello\r\n0", b"5\r\nhello\r\n0\r\nX: ")]
OTHERS = [b"HTTP/1.1 200 OK\r\n" + start for start in (b"X: ", b"Content-Length: 100000\r\n\r\n", b"\r\n")]


@pytest.mark.parametrize("drip", [b"0", b"X: y\r\n"])
@pytest.mark.parametrize(
    ("start", "streamed"), [*((start, True) for start in SIZES), *((start, False) for start in (*SIZES, *OTHERS))]
)
def test_what_drips_ends(start: bytes, drip: bytes, streamed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes, their extensions and trailers too. Of a body that is read piece by piece, each piece is its reader's."""
    monkeypatch.setattr(rest, "TIMEOUT_SECONDS", 0.3)
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(start)
                try:
                    while not over.wait(0.02):
                        connection.sendall(drip)
                except OSError:
                    pass

        threading.Thread(target=serve, daemon=True).start()
        began = time.monotonic()
        with RestClient(f"http://127.0.0.1:{server.getsockname()[1]}") as client, pytest.raises(TransportError):
            _read(client, streamed=streamed)
        over.set()
    assert time.monotonic() - began < 20, "0.6 s twice, on a busy machine"


def _read(client: RestClient, *, streamed: bool) -> None:
    if not streamed:
        client.get("/")
        return
    with client.stream("GET", "/") as response:
        while response.read_piece(1 << 16):
            pass
