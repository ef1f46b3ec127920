"""Downloads whose chunked answers drip: they go on where they were, and end where nothing but drops comes."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from runner.environment import Environment
from runner.errors import UnreachableError
from runner.gcp import downloads, failures, rest
from runner.gcp.session import Session
from runner.gcp.storage import crc32c_of_bytes
from tests.local_server import Handler, LocalServer

CONTENT = bytes(range(256)) * 64


@dataclass(slots=True)
class Dripping(LocalServer):
    """One object, whose bytes come `each` at a time; what follows them in an answer drips."""

    each: int = 0
    drip: bytes = b"0"
    starts: list[int] = field(default_factory=list)
    """Where each answer began."""
    over: threading.Event = field(default_factory=threading.Event)

    def handler(self) -> type[Handler]:
        server = self

        class Answering(Handler):
            def answer_get(self) -> None:
                if "alt=media" not in self.path:
                    self.send_json(200, _described())
                    return
                start = int((self.headers.get("range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
                server.starts.append(start)
                piece = CONTENT[start : start + server.each]
                self.close_connection = True
                self.wfile.write(b"HTTP/1.1 %d OK\r\nTransfer-Encoding: chunked\r\n\r\n" % (206 if start else 200))
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                with contextlib.suppress(OSError):  # the client has had enough
                    while not server.over.wait(0.01):
                        self.wfile.write(server.drip)

        return Answering


def _described() -> dict[str, str]:
    size, checksum = str(len(CONTENT)), crc32c_of_bytes(CONTENT)
    return {"bucket": "bucket", "name": "object", "size": size, "crc32c": checksum, "generation": "1"}


@pytest.fixture
def dripping(monkeypatch: pytest.MonkeyPatch) -> Iterator[Dripping]:
    monkeypatch.setattr(rest, "TIMEOUT_SECONDS", 0.2)
    monkeypatch.setattr(failures, "FIRST_PAUSE_SECONDS", 0.01)
    with Dripping() as server:
        yield server
        server.over.set()


def _read(url: str) -> bytes:
    with Session(Environment(project="p", vertex_url=url, storage_url=url, token="t")) as session:
        return downloads.read_bytes(session, "gs://bucket/object")


@pytest.mark.parametrize("drip", [b"0", b" "], ids=["size", "space"])
def test_a_download_that_drips_goes_on_where_it_was(drip: bytes, dripping: Dripping) -> None:
    dripping.each, dripping.drip = len(CONTENT) // 3, drip
    assert _read(dripping.url) == CONTENT
    assert dripping.starts == [0, dripping.each, 2 * dripping.each, 3 * dripping.each]


def test_a_download_of_drops_ends(dripping: Dripping) -> None:
    """An answer that brings a byte and then drips is none that goes on."""
    dripping.each = 1
    with pytest.raises(UnreachableError, match="too slowly"):
        _read(dripping.url)
    assert len(dripping.starts) == failures.ATTEMPTS
