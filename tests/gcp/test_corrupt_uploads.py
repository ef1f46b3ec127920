"""Bytes that change on their way up, or before they are sent: an error that names the object, and no wrong object."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.datasets.checks import check_files
from runner.datasets.images.uploads import uploaded
from runner.datasets.upload import upload
from runner.errors import ConfigurationError, GoogleApiError, RunnerError, UnreachableError
from runner.gcp import downloads, failures, rest, storage, uploads
from runner.gcp.bulk_uploads import Item, upload_many
from runner.gcp.session import Session
from tests.datasets.examples import png
from tests.gcp.corrupting import Change, CorruptingProxy, Exchange, doubled, flipped, in_document, in_payload
from tests.provisioning import Provisioned

SMALL = random.Random(1).randbytes(30_000)
LARGE = random.Random(2).randbytes(900_000)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, state_directory: Path) -> None:
    """Shorten pauses and pieces, and the patience with a server that says nothing more."""
    monkeypatch.setattr(failures, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(rest, "TIMEOUT_SECONDS", 2.0)
    monkeypatch.setattr(uploads, "SMALL_BYTES", 256 * 1024)


@pytest.fixture
def corrupting(project: Provisioned) -> Iterator[CorruptingProxy]:
    with CorruptingProxy(project.url) as proxy:
        yield proxy


@pytest.fixture
def corrupted(session: Session, corrupting: CorruptingProxy) -> Iterator[Session]:
    """A session on the same project whose storage is behind the proxy."""
    with Session(dataclasses.replace(session.environment, storage_url=corrupting.url)) as opened:
        yield opened


def file(session: Session, path: Path, uri: str) -> None:
    uploads.upload_file(session, path, uri)


def memory(session: Session, path: Path, uri: str) -> None:
    uploads.upload_bytes(session, path.read_bytes(), uri)


def many(session: Session, path: Path, uri: str) -> None:
    list(upload_many(session, [Item(path=path, uri=uri)], threads=2))


Way = Callable[[Session, Path, str], None]
WAYS = [(way, content) for way in (file, memory, many) for content in (SMALL, LARGE)]
each_way = pytest.mark.parametrize(
    ("way", "content"), WAYS, ids=[f"{way.__name__}-{len(content)}" for way, content in WAYS]
)


def undeclared(change: Change) -> Change:
    """Return what also takes away the checksum that a request declares, so that the service cannot notice."""

    def apply(exchange: Exchange) -> bool:
        if "/upload/" in exchange.path:
            exchange.body = re.sub(rb'"crc32c": ?"[^"]*"', b'"cacheControl":""', exchange.body)
            exchange.headers.pop("x-goog-hash", None)
        return change(exchange)

    return apply


def struck(way: Way, session: Session, path: Path, uri: str) -> None:
    with pytest.raises((GoogleApiError, UnreachableError)) as caught:
        way(session, path, uri)
    assert uri in caught.value.message


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "a flipped bit": flipped,
    "a piece is missing": lambda data: data[: len(data) // 2],
    "a piece twice": doubled,
    "nothing": lambda data: b"",
    "another content": lambda data: bytes(len(data)),
}


@pytest.mark.parametrize("change", CHANGES)
@each_way
def test_what_the_service_notices(
    way: Way, content: bytes, change: str, session: Session, corrupted: Session, corrupting: CorruptingProxy,
    project: Provisioned, tmp_path: Path,
) -> None:  # fmt: skip
    path, uri = tmp_path / "a.bin", f"gs://{project.datasets}/a.bin"
    path.write_bytes(content)
    corrupting.request = in_payload(CHANGES[change], content)
    struck(way, corrupted, path, uri)
    assert corrupting.struck
    assert storage.stat(session, uri) is None
    corrupting.request = None
    way(corrupted, path, uri)
    assert downloads.read_bytes(session, uri) == content, "the next try is not held up by the first"


@pytest.mark.parametrize("change", ["a flipped bit", "another content"])
@each_way
def test_what_the_service_stores_unnoticed(
    way: Way, content: bytes, change: str, session: Session, corrupted: Session, corrupting: CorruptingProxy,
    project: Provisioned, tmp_path: Path,
) -> None:  # fmt: skip
    path, uri = tmp_path / "a.bin", f"gs://{project.datasets}/a.bin"
    path.write_bytes(content)
    corrupting.request = undeclared(in_payload(CHANGES[change], content))
    struck(way, corrupted, path, uri)
    assert corrupting.struck
    assert storage.stat(session, uri) is None, "what was stored wrongly is deleted"


ANSWERS: dict[str, Change] = {
    "another checksum": in_document(lambda item: item.update(crc32c="AAAAAA=="), of="upload"),
    "no checksum": in_document(lambda item: item.pop("crc32c", None), of="upload"),
    "another size": in_document(lambda item: item.update(size="3"), of="upload"),
    "nothing": in_document(lambda item: item.clear(), of="upload"),
}


@pytest.mark.parametrize("answer", ANSWERS)
@each_way
def test_an_answer_that_says_another_thing(
    way: Way, content: bytes, answer: str, session: Session, corrupted: Session, corrupting: CorruptingProxy,
    project: Provisioned, tmp_path: Path,
) -> None:  # fmt: skip
    path, uri = tmp_path / "a.bin", f"gs://{project.datasets}/a.bin"
    path.write_bytes(content)
    corrupting.answer = ANSWERS[answer]
    struck(way, corrupted, path, uri)
    assert corrupting.struck
    corrupting.answer = None
    way(corrupted, path, uri)
    assert downloads.read_bytes(session, uri) == content


def renamed(exchange: Exchange) -> bool:
    return in_document(lambda item: item.update(name="b.bin"), of="upload")(exchange)


def half(exchange: Exchange) -> bool:
    if not exchange.is_upload:
        return False
    exchange.content = exchange.content[: len(exchange.content) // 2]
    return exchange.content != b""


@pytest.mark.parametrize("answer", [half, renamed])
@pytest.mark.parametrize("way", [file, many])
@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
def test_half_an_answer_and_one_about_another_object(
    way: Way, content: bytes, answer: Change, corrupted: Session, corrupting: CorruptingProxy,
    project: Provisioned, tmp_path: Path,
) -> None:  # fmt: skip
    path = tmp_path / "a.bin"
    path.write_bytes(content)
    corrupting.answer = answer
    struck(way, corrupted, path, f"gs://{project.datasets}/a.bin")
    assert corrupting.struck


def silent(exchange: Exchange) -> bool:
    exchange.answered["connection"] = "close"
    exchange.silent = True
    return True


def closed(exchange: Exchange) -> bool:
    exchange.keep_open = False
    return True


@pytest.mark.parametrize("change", [silent, closed])
@each_way
def test_connections_that_end(
    way: Way, content: bytes, change: Change, session: Session, corrupted: Session, corrupting: CorruptingProxy,
    project: Provisioned, tmp_path: Path,
) -> None:  # fmt: skip
    path, uri = tmp_path / "a.bin", f"gs://{project.datasets}/a.bin"
    path.write_bytes(content)
    corrupting.answer = change
    way(corrupted, path, uri)
    assert downloads.read_bytes(session, uri) == content


def test_a_connection_whose_end_is_said_is_not_asked_again(
    corrupted: Session, corrupting: CorruptingProxy, project: Provisioned
) -> None:
    corrupting.answer = silent
    for number in range(3):
        assert storage.stat(corrupted, f"gs://{project.datasets}/{number}") is None
    assert len(corrupting.seen) == 3, "no request was lost on a connection whose end was said"


def test_the_content_goes_only_to_the_service_that_was_asked(
    corrupted: Session, corrupting: CorruptingProxy, project: Provisioned, tmp_path: Path
) -> None:
    def elsewhere(exchange: Exchange) -> bool:
        address = exchange.answered.get("location", "")
        exchange.answered["location"] = address.replace(corrupting.url, "http://elsewhere.invalid")
        return bool(address)

    path, uri = tmp_path / "a.bin", f"gs://{project.datasets}/a.bin"
    path.write_bytes(LARGE)
    corrupting.answer = elsewhere
    uploads.upload_file(corrupted, path, uri)
    assert corrupting.struck == 1
    assert downloads.read_bytes(corrupted, uri) == LARGE


def changing(path: Path, content: bytes) -> Callable[[Exchange], bool]:
    """Return what changes a file when the first request arrives: after it was read first, before it is sent."""

    def apply(exchange: Exchange) -> bool:
        path.write_bytes(content)
        return True

    return apply


@pytest.mark.parametrize("way", [file, many])
@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
def test_a_file_that_changes_before_it_is_sent(
    way: Way, content: bytes, session: Session, corrupted: Session, corrupting: CorruptingProxy,
    project: Provisioned, tmp_path: Path,
) -> None:  # fmt: skip
    path, uri = tmp_path / "a.bin", f"gs://{project.datasets}/a.bin"
    path.write_bytes(content)
    corrupting.request = changing(path, flipped(content))
    try:
        way(corrupted, path, uri)
    except RunnerError:
        assert storage.stat(session, uri) is None
    else:
        assert downloads.read_bytes(session, uri) in {content, flipped(content)}


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
def test_a_file_that_is_cut_between_its_check_and_its_upload(
    content: bytes, session: Session, project: Provisioned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, uri = tmp_path / "a.bin", f"gs://{project.datasets}/a.bin"
    path.write_bytes(content)
    checksum = storage.crc32c_of(path)
    left = [1, 1] if content is LARGE else []  # opened to see its size, and for its checksum, before it is read

    def cutting(opened: Callable[..., Any]) -> Callable[..., Any]:
        def opening(target: Any, *given: Any, **options: Any) -> Any:
            found = opened(target, *given, **options)
            if target == path:
                if not left:
                    os.truncate(path, len(content) // 2)
                del left[:1]
            return found

        return opening

    monkeypatch.setattr(Path, "open", cutting(Path.open))
    monkeypatch.setattr(os, "open", cutting(os.open))
    with pytest.raises(ConfigurationError, match="has changed"):
        uploads.upload_file(session, path, uri, crc32c=checksum)
    assert storage.stat(session, uri) is None


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
def test_a_file_that_is_not_what_its_name_says(content: bytes, session: Session, tmp_path: Path) -> None:
    path, uri = tmp_path / "a.bin", f"gs://{session.environment.datasets_bucket}/a.bin"
    path.write_bytes(flipped(content))
    checksum = storage.crc32c_of_bytes(content)
    with pytest.raises(ConfigurationError, match=r"a\.bin has changed"):
        uploads.upload_file(session, path, uri, crc32c=checksum)
    with pytest.raises(ConfigurationError, match=r"a\.bin has changed"):
        list(upload_many(session, [Item(path=path, uri=uri, crc32c=checksum)]))
    assert storage.stat(session, uri) is None


def test_a_dataset_that_changes_after_its_check(session: Session, project: Provisioned, tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"prompt": "What is 1?", "completion": "It is 1."}\n' * 16)
    checksums = {path: storage.crc32c_of(path)}
    report = check_files(path)
    path.write_bytes(path.read_bytes().replace(b"It is 1.", b"It is 2."))
    with pytest.raises(ConfigurationError, match=r"t\.jsonl has changed"):
        upload(session, report, checked=checksums)
    assert storage.list_objects(session, f"gs://{project.datasets}/") == []


def pictured(folder: Path) -> tuple[Path, Path]:
    picture = folder / "1.png"
    picture.write_bytes(png(3, 2))
    parts = [{"type": "text", "text": "?"}, {"type": "image_url", "image_url": {"url": "1.png"}}]
    turns = [{"role": "user", "content": parts}, {"role": "assistant", "content": "A cat."}]
    dataset = folder / "t.jsonl"
    dataset.write_text(json.dumps({"messages": turns}) + "\n")
    return dataset, picture


def test_an_image_that_changes_between_its_name_and_its_upload(
    session: Session, corrupted: Session, corrupting: CorruptingProxy, project: Provisioned, tmp_path: Path
) -> None:
    dataset, picture = pictured(tmp_path)
    corrupting.request = changing(picture, flipped(picture.read_bytes()))
    with (
        pytest.raises(ConfigurationError, match=r"1\.png has changed"),
        uploaded(corrupted, [dataset], [dataset], None),
    ):
        pass
    assert storage.list_objects(session, f"gs://{project.datasets}/") == []


def test_an_image_of_the_same_size_in_the_place_of_another(
    session: Session, project: Provisioned, tmp_path: Path
) -> None:
    dataset, picture = pictured(tmp_path)
    with uploaded(session, [dataset], [dataset], None):
        (stored,) = storage.list_objects(session, f"gs://{project.datasets}/datasets/images/")
    uploads.upload_bytes(session, flipped(picture.read_bytes()), stored.uri, replace=True)
    with (
        pytest.raises(GoogleApiError, match="another content") as caught,
        uploaded(session, [dataset], [dataset], None),
    ):
        pass
    assert stored.uri in caught.value.message
