"""Bytes that change on their way down: an error that names the object, or the right bytes; never others, never half."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runner.errors import GoogleApiError, UnreachableError
from runner.gcp import downloads, failures, rest, uploads
from runner.gcp.downloads import download_prefix, open_object
from runner.gcp.session import Session
from tests.gcp.corrupting import (
    Change,
    CorruptingProxy,
    Exchange,
    doubled,
    flipped,
    gzipped,
    in_document,
    in_download,
)
from tests.provisioning import Provisioned

CONTENT = random.Random(1).randbytes(300_000)
OTHER = random.Random(2).randbytes(300_000)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten pauses, and the patience with a server that says nothing more."""
    monkeypatch.setattr(failures, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(rest, "TIMEOUT_SECONDS", 2.0)


@pytest.fixture
def folder(session: Session, project: Provisioned) -> str:
    """A folder with the object that is read; another of the same size lies elsewhere."""
    uploads.upload_bytes(session, CONTENT, f"gs://{project.datasets}/in/object.bin")
    uploads.upload_bytes(session, OTHER, f"gs://{project.datasets}/other/object.bin")
    return f"gs://{project.datasets}/in"


@pytest.fixture
def corrupting(project: Provisioned) -> Iterator[CorruptingProxy]:
    with CorruptingProxy(project.url) as proxy:
        yield proxy


@pytest.fixture
def corrupted(session: Session, corrupting: CorruptingProxy) -> Iterator[Session]:
    """A session on the same project whose storage is behind the proxy."""
    with Session(dataclasses.replace(session.environment, storage_url=corrupting.url)) as opened:
        yield opened


def read(session: Session, folder: str, _: Path) -> bytes:
    return downloads.read_bytes(session, f"{folder}/object.bin")


def stream(session: Session, folder: str, _: Path) -> bytes:
    with open_object(session, f"{folder}/object.bin")[1] as opened:
        return opened.read()


def stream_by_lines(session: Session, folder: str, _: Path) -> bytes:
    with open_object(session, f"{folder}/object.bin")[1] as opened:
        return b"".join(opened)


def download(session: Session, folder: str, target: Path) -> bytes:
    (path,) = download_prefix(session, folder, target)
    return path.read_bytes()


Way = Callable[[Session, str, Path], bytes]
WAYS = [read, stream, stream_by_lines, download]


def other_bytes(exchange: Exchange) -> bool:
    if not exchange.is_download:
        return False
    exchange.path = exchange.path.replace("in%2Fobject", "other%2Fobject").partition("&generation=")[0]
    return True


def other_description(exchange: Exchange) -> bool:
    if not exchange.is_metadata:
        return False
    exchange.path = exchange.path.replace("in%2Fobject", "other%2Fobject")
    return True


def other_object(exchange: Exchange) -> bool:
    return other_description(exchange) or other_bytes(exchange)


def both(change: Callable[[dict[str, object]], object]) -> Change:
    """Return what changes an object's description wherever it stands."""
    alone, listed = in_document(change, of="metadata"), in_document(change, of="list")
    return lambda exchange: alone(exchange) or listed(exchange)


def cut_and_closed(exchange: Exchange) -> bool:
    if not exchange.is_download or exchange.status >= 300:
        return False
    exchange.answered["content-length"] = str(len(exchange.content))
    exchange.content, exchange.keep_open = exchange.content[: len(exchange.content) // 2], False
    return True


def cut_once_then_flipped() -> Change:
    strikes = iter([cut_and_closed])
    return lambda exchange: exchange.is_download and next(strikes, in_download(flipped))(exchange)


def truncated_description(exchange: Exchange) -> bool:
    if not (exchange.is_metadata or exchange.is_list):
        return False
    exchange.content = exchange.content[: len(exchange.content) // 2]
    return True


def length(more: int) -> Change:
    def apply(exchange: Exchange) -> bool:
        if not exchange.is_download or exchange.status >= 300:
            return False
        exchange.answered["content-length"] = str(len(exchange.content) + more)
        exchange.keep_open = more < 0
        return True

    return apply


def said_and_kept_open(exchange: Exchange) -> bool:
    exchange.answered["connection"] = "close"
    exchange.silent = True
    return True


def closed_unsaid(exchange: Exchange) -> bool:
    exchange.keep_open = False
    return True


def answered_twice(exchange: Exchange) -> bool:
    exchange.after = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
    return True


ERROR, RIGHT = "error", "right"
EITHER = "error or right"
CORRUPTIONS: dict[str, tuple[Change, str]] = {
    "a flipped bit": (in_download(flipped), ERROR),
    "cut short, and said to be so long": (in_download(lambda data: data[: len(data) // 2]), EITHER),
    "the last byte is missing": (in_download(lambda data: data[:-1]), EITHER),
    "cut short by a lost connection": (cut_and_closed, EITHER),
    "cut short, and the rest has a flipped bit": (cut_once_then_flipped(), ERROR),
    "a piece twice": (in_download(doubled), ERROR),
    "more at the end": (in_download(lambda data: data + b"more"), ERROR),
    "nothing": (in_download(lambda data: b""), ERROR),
    "a checksum in the head that is wrong": (in_download(bytes, x_goog_hash="crc32c=AAAAAA=="), RIGHT),
    "a wrong checksum": (both(lambda item: item.update(crc32c="AAAAAA==")), ERROR),
    "no checksum": (both(lambda item: item.pop("crc32c", None)), ERROR),
    "a smaller size": (both(lambda item: item.update(size=str(len(CONTENT) - 1))), ERROR),
    "a larger size": (both(lambda item: item.update(size=str(len(CONTENT) + 1))), ERROR),
    "a size of zero": (both(lambda item: item.update(size="0")), ERROR),
    "no size": (both(lambda item: item.pop("size", None)), ERROR),
    "half a description": (truncated_description, ERROR),
    "a length that is too large": (length(+5), EITHER),
    "a length that is too small": (length(-5), EITHER),
    "compressed under way": (gzipped, ERROR),
    "the end of the connection is said and does not come": (said_and_kept_open, RIGHT),
    "the end of the connection comes unsaid": (closed_unsaid, RIGHT),
    "an answer to nothing": (answered_twice, RIGHT),
}


def check(outcome: str, way: Way, session: Session, proxy: CorruptingProxy, folder: str, target: Path) -> None:
    found, error = b"", None
    try:
        found = way(session, folder, target)
    except (GoogleApiError, UnreachableError) as raised:
        error = raised
    assert proxy.struck
    if error is None:
        assert found == CONTENT, "other bytes than those that are stored"
        assert outcome in {RIGHT, EITHER}
        return
    assert outcome in {ERROR, EITHER}, error
    assert "in/object.bin" in error.message or folder in error.message
    assert [path for path in target.rglob("*") if path.is_file()] == [], "nothing is left of it"


@pytest.mark.parametrize("corruption", CORRUPTIONS)
@pytest.mark.parametrize("way", WAYS)
def test_a_corrupt_answer(
    way: Way, corruption: str, corrupted: Session, corrupting: CorruptingProxy, folder: str, tmp_path: Path
) -> None:
    corrupting.answer, outcome = CORRUPTIONS[corruption]
    check(outcome, way, corrupted, corrupting, folder, tmp_path / "target")


@pytest.mark.parametrize(
    ("way", "change"),
    [
        (way, change)
        for way in WAYS
        for change in (other_bytes, other_description, other_object)
        if way is not download or change is other_bytes  # a list describes its objects
    ],
)
def test_another_object(
    way: Way, change: Change, corrupted: Session, corrupting: CorruptingProxy, folder: str, tmp_path: Path
) -> None:
    corrupting.request = change
    check(ERROR, way, corrupted, corrupting, folder, tmp_path / "target")


def test_a_list_without_checksums(corrupted: Session, corrupting: CorruptingProxy, folder: str, tmp_path: Path) -> None:
    """Cloud Storage leaves them out of lists for objects whose key the customer manages."""
    corrupting.answer = in_document(lambda item: item.pop("crc32c"), of="list")
    check(RIGHT, download, corrupted, corrupting, folder, tmp_path / "target")
    inode = (tmp_path / "target" / "object.bin").stat().st_ino
    download(corrupted, folder, tmp_path / "target")
    assert (tmp_path / "target" / "object.bin").stat().st_ino == inode, "what is right was kept"


@pytest.mark.parametrize("way", WAYS)
def test_an_empty_object(way: Way, session: Session, project: Provisioned, tmp_path: Path) -> None:
    uploads.upload_bytes(session, b"", f"gs://{project.datasets}/empty/object.bin")
    assert way(session, f"gs://{project.datasets}/empty", tmp_path / "target") == b""


def test_of_bytes_that_come_slowly_each_is_told(
    session: Session, corrupting: CorruptingProxy, corrupted: Session, project: Provisioned, tmp_path: Path
) -> None:
    uploads.upload_bytes(session, b"0123456789", f"gs://{project.datasets}/slow/object.bin")

    def drop_by_drop(exchange: Exchange) -> bool:
        if "alt=media" in exchange.path:
            exchange.raw, exchange.endless = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"1\r\n \r\n"
        return "alt=media" in exchange.path

    corrupting.answer = drop_by_drop
    seen: list[int] = []
    with pytest.raises(GoogleApiError, match="differs from what is stored"):
        download_prefix(
            corrupted, f"gs://{project.datasets}/slow", tmp_path, progress=lambda done, _: seen.append(done)
        )
    assert len(seen) >= 9
