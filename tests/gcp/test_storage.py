"""Uploads and downloads, verified; names that try to leave a directory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runner.errors import AlreadyExistsError, ConfigurationError, NotFoundError
from runner.gcp import downloads, storage, uploads
from runner.gcp.downloads import download_prefix
from runner.gcp.session import Session
from tests.provisioning import Provisioned


@pytest.fixture
def place(project: Provisioned) -> str:
    return f"gs://{project.outputs}/folder"


@pytest.mark.parametrize(
    ("uri", "parts"),
    [
        ("gs://bucket/a/b.jsonl", ("bucket", "a/b.jsonl")),
        ("gs://bucket", ("bucket", "")),
        ("gs://bucket/", ("bucket", "")),
        ("gs://bucket/../x", ("bucket", "../x")),
        ("gs://bucket/a#b?c%2f", ("bucket", "a#b?c%2f")),
        ("gs://bucket//x", ("bucket", "/x")),
    ],
)
def test_addresses(uri: str, parts: tuple[str, str]) -> None:
    assert storage.parse_gs_uri(uri) == parts


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "bucket/x",
        "s3://bucket/x",
        "gs://",
        "gs://B/x",
        "gs://a/x",
        "gs://u@bucket/x",
        "gs://bucket:1/x",
        "gs://bucket?x/y",
        "gs://bucket/a\nb",
        "gs://bucket/a\rb",
        "gs://bucket/a\0b",
        "gs://bucket/" + "x" * 1025,
    ],
)
def test_wrong_addresses(uri: str) -> None:
    with pytest.raises(ConfigurationError):
        storage.parse_gs_uri(uri)


@pytest.mark.parametrize("size", [0, 1, 5_000, uploads.SMALL_BYTES * 2 + 7])
def test_a_file_goes_there_and_back(size: int, session: Session, place: str, tmp_path: Path) -> None:
    content = os.urandom(size)
    source = tmp_path / "source"
    source.write_bytes(content)
    seen: list[tuple[int, int]] = []
    info = uploads.upload_file(session, source, f"{place}/x", progress=lambda *numbers: seen.append(numbers)).info
    assert (info.size, info.crc32c) == (size, storage.crc32c_of(source))
    assert info.generation > 0
    assert seen == sorted(seen)
    assert not size or seen[-1] == (size, size)
    assert downloads.read_bytes(session, f"{place}/x") == content


def test_the_same_content_is_not_sent_again(session: Session, place: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"once")
    first = uploads.upload_file(session, source, f"{place}/x")
    again = uploads.upload_file(session, source, f"{place}/x")
    assert (first.sent, again.sent, again.info) == (True, False, first.info)


def test_other_content_is_replaced_only_when_asked(session: Session, place: str) -> None:
    first = uploads.upload_bytes(session, b"one", f"{place}/x")
    with pytest.raises(AlreadyExistsError, match="another content"):
        uploads.upload_bytes(session, b"two", f"{place}/x")
    assert downloads.read_bytes(session, f"{place}/x") == b"one"
    second = uploads.upload_bytes(session, b"two", f"{place}/x", replace=True)
    assert second.generation != first.generation
    assert downloads.read_bytes(session, f"{place}/x") == b"two"


def test_what_is_not_there(session: Session, project: Provisioned, place: str, tmp_path: Path) -> None:
    assert storage.stat(session, f"{place}/absent") is None
    assert not storage.exists(session, f"{place}/absent")
    with pytest.raises(NotFoundError) as caught:
        downloads.read_bytes(session, f"{place}/absent")
    assert caught.value.resource == f"{place}/absent"
    with pytest.raises(NotFoundError):
        download_prefix(session, place, tmp_path)
    with pytest.raises(NotFoundError):
        storage.list_objects(session, f"gs://{project.project}-absent/x")
    with pytest.raises(NotFoundError):
        storage.bucket_info(session, f"{project.project}-absent")
    with pytest.raises(ConfigurationError, match="no such file"):
        uploads.upload_file(session, tmp_path / "absent", f"{place}/x")


def test_download_of_a_folder(session: Session, place: str, tmp_path: Path) -> None:
    files = {"a.txt": b"a" * 10, "deep/b.txt": b"b" * 20, "deep/c/d.txt": b""}
    for name, content in files.items():
        uploads.upload_bytes(session, content, f"{place}/{name}")
    uploads.upload_bytes(session, b"", f"{place}/deep/")  # a folder marker, as consoles make them
    uploads.upload_bytes(session, b"no", f"{place}-other/x")
    seen: list[tuple[int, int]] = []
    target = tmp_path / "target"
    paths = download_prefix(session, place, target, progress=lambda *numbers: seen.append(numbers))
    assert {str(path.relative_to(target)): path.read_bytes() for path in paths} == files
    assert sorted(path for path in target.rglob("*") if path.is_file()) == sorted(paths)
    assert seen[-1] == (30, 30)


def test_a_second_download_keeps_what_is_right_and_refuses_what_is_in_the_way(
    session: Session, place: str, tmp_path: Path
) -> None:
    uploads.upload_bytes(session, b"right", f"{place}/a")
    uploads.upload_bytes(session, b"right", f"{place}/b")
    (tmp_path / "a").write_bytes(b"right")
    before = (tmp_path / "a").stat().st_ino
    download_prefix(session, place, tmp_path)
    assert (tmp_path / "a").stat().st_ino == before
    (tmp_path / "b").write_bytes(b"wrong")
    with pytest.raises(ConfigurationError, match="another content"):
        download_prefix(session, place, tmp_path)
    assert (tmp_path / "b").read_bytes() == b"wrong"
    download_prefix(session, place, tmp_path, force=True)
    assert (tmp_path / "b").read_bytes() == b"right"


@pytest.mark.parametrize("name", ["../escape", "a/../../escape", "/absolute", "a//b", "./a", "a/./b", "C:\\x", "a\\b"])
def test_names_that_would_leave_the_directory(name: str, session: Session, place: str, tmp_path: Path) -> None:
    uploads.upload_bytes(session, b"out", f"{place}/{name}")
    target = tmp_path / "in" / "target"
    with pytest.raises(ConfigurationError, match="cannot become a file name"):
        download_prefix(session, place, target)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_names_that_no_folder_can_hold_are_told_all_at_once(session: Session, place: str, tmp_path: Path) -> None:
    for name in ("config.json", "config.json/x", "a/b/c", "a/b", "l" * 256, f"deep/{'é' * 130}/x", "fine"):
        uploads.upload_bytes(session, b"x", f"{place}/{name}")
    with pytest.raises(ConfigurationError) as caught:
        download_prefix(session, place, tmp_path / "target")
    assert len(caught.value.problems) == 4
    assert "'config.json/x' needs a folder where 'config.json' is a file" in caught.value.problems
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_links_are_not_followed(session: Session, place: str, tmp_path: Path) -> None:
    uploads.upload_bytes(session, b"out", f"{place}/link/x")
    uploads.upload_bytes(session, b"new", f"{place}/file")
    outside = tmp_path / "outside"
    outside.mkdir()
    target = tmp_path / "target"
    target.mkdir()
    (target / "link").symlink_to(outside)
    with pytest.raises(ConfigurationError, match="is a link"):
        download_prefix(session, place, target, force=True)
    (target / "link").unlink()
    (outside / "file").write_bytes(b"old")
    (target / "file").symlink_to(outside / "file")
    download_prefix(session, place, target, force=True)
    assert (outside / "file").read_bytes() == b"old"
    assert (target / "file").read_bytes() == b"new"


def test_bucket_facts(session: Session, project: Provisioned) -> None:
    info = storage.bucket_info(session, project.datasets)
    assert (info.location, info.location_type, info.project_number) == ("us-central1", "region", project.number)
    members = storage.bucket_policy(session, project.datasets)["roles/storage.objectUser"]
    assert members == {f"serviceAccount:{email}" for email in session.environment.service_agents.values()}
