"""Uploads and streams of datasets, against the emulator: sent once, resumed, verified, whatever the network does."""

from __future__ import annotations

import json
import random
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from runner.datasets.checks import check_files
from runner.datasets.images.uploads import uploaded
from runner.datasets.reading.remote import remote_object
from runner.environment import Environment
from runner.errors import AlreadyExistsError, DatasetError, GoogleApiError, NotFoundError
from runner.gcp import downloads, failures, storage, uploads
from runner.gcp.bulk_uploads import Item, upload_many
from runner.gcp.downloads import open_object
from runner.gcp.session import Session
from runner.gcp.uploads import upload_file
from tests.cli.conftest import in_project, run  # noqa: F401 - fixtures
from tests.cli.invocation import CommandLine
from tests.datasets.examples import png
from tests.datasets.written import JPEG
from tests.provisioning import Provisioned


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, state_directory: Path) -> None:
    """Shorten the pauses between tries, and remember uploads in a directory of the test's own."""
    monkeypatch.setattr(failures, "FIRST_PAUSE_SECONDS", 0.01)


def session_on(project: Provisioned, url: str = "") -> Session:
    address = url or project.url
    return Session(
        Environment(
            project=project.project,
            datasets_bucket=project.datasets,
            vertex_url=address,
            storage_url=address,
            token="a-token",
        )
    )


@pytest.fixture
def session(project: Provisioned) -> Iterator[Session]:
    with session_on(project) as opened:
        yield opened


@contextmanager
def faults(url: str, *texts: str) -> Iterator[None]:
    """Arm faults of the emulator; every one of them must strike."""
    armed = (
        httpx.post(f"{url}/_emulator/faults", json={"faults": list(texts)}, timeout=120)
        .raise_for_status()
        .json()["faults"]
    )
    ids = {fault["id"] for fault in armed}
    try:
        yield
        found = [
            fault for fault in httpx.get(f"{url}/_emulator/faults", timeout=120).json()["faults"] if fault["id"] in ids
        ]
        assert len(found) == len(texts)
        assert all(fault["hits"] for fault in found), found
    finally:
        httpx.delete(f"{url}/_emulator/faults", timeout=120)


@contextmanager
def cutting(url: str, after: int, times: int) -> Iterator[str]:
    """Relay connections to a server and cut the first few that carry more than so many bytes of answers."""
    server = socket.create_server(("127.0.0.1", 0))
    address = urlsplit(url)
    left = [times]

    def relay(client: socket.socket) -> None:
        upstream = socket.create_connection((address.hostname or "", address.port or 0))

        def forward() -> None:
            while data := _read(client):
                upstream.sendall(data)

        threading.Thread(target=forward, daemon=True).start()
        carried = 0
        while data := _read(upstream):
            carried += len(data)
            if carried > after and left[0]:
                left[0] -= 1
                client.sendall(data[: len(data) // 2])
                break
            client.sendall(data)
        for end in (client, upstream):
            with suppress(OSError):  # the other side may have gone first
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def accept() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=relay, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        assert left == [0], "the connection was cut as often as it was to be"
    finally:
        server.close()


def _read(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65536)
    except OSError:
        return b""


def test_an_object_is_streamed_whole_although_the_connection_breaks(session: Session, project: Provisioned) -> None:
    data = random.Random(3).randbytes(3_000_000)
    uri = f"gs://{project.datasets}/a/../b #?%2f é.bin"
    uploads.upload_bytes(session, data, uri)
    with cutting(project.url, 700_000, times=3) as address, session_on(project, address) as flaky:
        info, stream = open_object(flaky, uri)
        assert (stream.read(), info.size) == (data, len(data))
    with faults(project.url, "storage.objects.get:status=503,times=2,retry-after=0"):
        assert open_object(session, uri)[1].read() == data
    with pytest.raises(NotFoundError):
        open_object(session, uri + "x")


def test_a_stream_is_of_one_version(session: Session, project: Provisioned) -> None:
    uri = f"gs://{project.datasets}/t.bin"
    uploads.upload_bytes(session, b"old" * 1_000_000, uri)
    _, stream = open_object(session, uri)
    uploads.upload_bytes(session, b"new" * 1_000_000, uri, replace=True)
    with stream, pytest.raises((GoogleApiError, NotFoundError)):
        stream.read()


def test_datasets_in_buckets(run: CommandLine, in_project: Provisioned, session: Session, tmp_path: Path) -> None:  # noqa: F811
    rows = [{"prompt": f"What is {number}?", "completion": f"It is {number}."} for number in range(40)]
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = f"gs://{in_project.datasets}/data"
    fixed = run("data", "fix", str(path), "--output", f"{folder}/t.jsonl.gz", "--format", "json")
    assert fixed.document["output"] == f"{folder}/t.jsonl.gz"
    for name in ("t.jsonl.gz", "t.jsonl"):
        if name == "t.jsonl":
            uploads.upload_file(session, path, f"{folder}/{name}")
        checked = run("data", "check", f"{folder}/{name}", "--format", "json")
        assert (checked.code, checked.document["files"][0]["kept"]) == (0, 40), checked.err
        assert checked.document["files"][0]["path"] == f"{folder}/{name}"
        assert run("data", "stats", f"{folder}/{name}", "--sample", "--format", "json").document["draws"]
        assert "[[" in run("data", "preview", f"{folder}/{name}").out
    made = run(
        "data", "split", f"{folder}/t.jsonl.gz", "--training", f"{folder}/a.jsonl", "--validation", f"{folder}/b.jsonl",
        "--share", "0.2", "--format", "json",
    )  # fmt: skip
    assert made.code == 0, made.err
    both = [downloads.read_bytes(session, f"{folder}/{name}.jsonl") for name in ("a", "b")]
    assert b"".join(both).count(b"\n") == 40
    again = run("data", "convert", str(path), "--to", "chat", "--output", f"{folder}/a.jsonl")
    assert again.code == 4
    assert "another content" in again.err
    missing = run("data", "check", f"{folder}/nope.jsonl", "--format", "json")
    assert (missing.code, missing.error["code"]) == (4, "not_found")
    assert run("data", "check", "gs://UPPER/x.jsonl").code == 2


def test_a_broken_object_is_a_finding(session: Session, project: Provisioned) -> None:
    uri = f"gs://{project.datasets}/t.jsonl.gz"
    uploads.upload_bytes(session, b"\x1f\x8b\x08\x00garbage", uri)
    report = check_files(remote_object(session, uri))
    assert "not-text" in report.training.counts


def _note(seen: list[tuple[int, int]], done: int, total: int) -> None:
    seen.append((done, total))


def test_many_files_at_once(session: Session, project: Provisioned, tmp_path: Path) -> None:
    items = []
    for number in range(120):
        path = tmp_path / str(number)
        path.write_bytes(random.Random(number).randbytes(number * 50))
        items.append(Item(path=path, uri=f"gs://{project.datasets}/many/{number:03}", size=number * 50))
    # One fewer than there are tries, since all of them may strike the same file, which starts before the others.
    breaks = (
        "storage.objects.insert:status=503,times=1,retry-after=0",
        "storage.objects.insert:drop,times=1",
        "storage.objects.insert:drop-after,times=1",
        "storage.objects.insert:status-after=500,times=1,retry-after=0",
    )
    assert len(breaks) < failures.ATTEMPTS
    for some in (items[:40], items[40:80], items[80:]):
        total = sum(item.size for item in some)
        seen: list[tuple[int, int]] = []
        with faults(project.url, *breaks):
            results = list(upload_many(session, some, total=total, progress=partial(_note, seen)))
        assert len(results) == 40
        assert seen[-1] == (total, total)
        assert seen == sorted(seen)
    for item in items:
        assert downloads.read_bytes(session, item.uri) == item.path.read_bytes()
    again = list(upload_many(session, items))
    assert not any(result.sent for result in again)
    items[7].path.write_bytes(b"changed")
    with pytest.raises(AlreadyExistsError, match="another content"):
        list(upload_many(session, items))


def test_a_large_file_goes_on_where_it_was(
    session: Session, project: Provisioned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state_directory: Path
) -> None:
    monkeypatch.setattr(uploads, "SMALL_BYTES", 256 * 1024)
    path = tmp_path / "t.jsonl"
    path.write_bytes(random.Random(1).randbytes(1_500_000))
    uri = f"gs://{project.datasets}/large.jsonl"

    class StopError(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done > total / 2:
            raise StopError

    with pytest.raises(StopError):
        upload_file(session, path, uri, progress=stop)
    (record,) = (state_directory / "uploads").iterdir()
    assert record.stat().st_mode & 0o777 == 0o600
    offsets: list[int] = []
    with faults(project.url, "storage.objects.insert:status=503,times=1,retry-after=0,skip=1"):
        result = upload_file(session, path, uri, progress=lambda done, total: offsets.append(done))
    assert result.sent
    assert offsets[0] > 750_000, "what had arrived was not sent again"
    assert list((state_directory / "uploads").iterdir()) == []
    assert downloads.read_bytes(session, uri) == path.read_bytes()
    assert not upload_file(session, path, uri).sent


def test_an_upload_that_the_service_forgot_starts_anew(
    session: Session, project: Provisioned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state_directory: Path
) -> None:
    monkeypatch.setattr(uploads, "SMALL_BYTES", 256 * 1024)
    path = tmp_path / "t.jsonl"
    path.write_bytes(b"x" * 600_000)
    uri = f"gs://{project.datasets}/forgotten.jsonl"

    class StopError(Exception):
        pass

    def stop(done: int, total: int) -> None:
        raise StopError

    with pytest.raises(StopError):
        upload_file(session, path, uri, progress=stop)
    (record,) = (state_directory / "uploads").iterdir()
    session.send("DELETE", project.url + json.loads(record.read_text())["address"], "cancel", uri, expected=(499,))
    assert upload_file(session, path, uri).sent
    assert downloads.read_bytes(session, uri) == path.read_bytes()


def pictured(tmp_path: Path, count: int) -> Path:
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    lines = []
    for number in range(count):
        name = f"images/{number}.png" if number % 2 else f"images/{number}.jpg"
        (folder / name).write_bytes(png(1 + number, 2) if number % 2 else JPEG)
        parts = [{"type": "text", "text": f"{number}?"}, {"type": "image_url", "image_url": {"url": name}}]
        turns = [{"role": "user", "content": parts}, {"role": "assistant", "content": "A cat."}]
        lines.append(json.dumps({"messages": turns}))
    path = folder / "t.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_images_are_sent_once_and_named(run: CommandLine, in_project: Provisioned, tmp_path: Path) -> None:  # noqa: F811
    path = pictured(tmp_path, 40)
    before = path.read_bytes()
    options = ("--images", "--model", "meta/llama4@llama-4-scout-17b-16e-instruct", "--format", "json")
    first = run("data", "upload", str(path), *options)
    assert first.code == 0, first.err
    assert path.read_bytes() == before
    uri = first.document["training"]["uri"]
    with session_on(in_project) as session:
        sent = downloads.read_bytes(session, uri)
        names = {json.loads(line)["messages"][0]["content"][1]["image_url"]["url"] for line in sent.splitlines()}
        assert len(names) == 21, "equal images are one object"
        assert all(name.startswith(f"gs://{in_project.datasets}/datasets/images/") for name in names)
        stored = storage.list_objects(session, f"gs://{in_project.datasets}/datasets/images/")
        assert {item.uri for item in stored} == names
        assert {item.content_type for item in stored} == {"image/png", "image/jpeg"}
        generations = {item.uri: item.generation for item in stored}
        again = run("data", "upload", str(path), *options).document
        assert (again["training"]["uri"], again["training"]["sent"]) == (uri, False)
        stored = storage.list_objects(session, f"gs://{in_project.datasets}/datasets/images/")
        assert {item.uri: item.generation for item in stored} == generations
    assert "upload images" in first.err


def test_what_is_no_image_or_lies_elsewhere_stops_everything(session: Session, tmp_path: Path) -> None:
    path = pictured(tmp_path, 4)
    (path.parent / "images" / "1.png").write_bytes(b"GIF89a")
    (path.parent / "images" / "3.png").unlink()
    outside = tmp_path / "secret.png"
    outside.write_bytes(png())
    (path.parent / "images" / "0.jpg").unlink()
    (path.parent / "images" / "0.jpg").symlink_to(outside)
    with pytest.raises(DatasetError) as caught, uploaded(session, [path], [path], None):
        pass
    assert [finding["line"] for finding in caught.value.findings] == [1, 2, 4]
    assert storage.list_objects(session, f"gs://{session.environment.datasets_bucket}/datasets/") == []
