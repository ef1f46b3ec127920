"""What Storage deletes on its own, by a clock that the test moves."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from runner.emulator.clock import Clock
from runner.emulator.server import EmulatorServer
from runner.emulator.settings import EmulatorSettings
from runner.emulator.storage import lifecycle
from tests.emulator.storage.conftest import Bucket


class Aging:
    """A server whose clock can be moved."""

    def __init__(self, directory: Path) -> None:
        self.ahead = timedelta()
        clock = Clock(lambda: datetime.now(UTC) + self.ahead)
        self.server = EmulatorServer(EmulatorSettings(directory=directory, stand_in="tiny"), clock=clock)

    def pass_days(self, days: float) -> None:
        self.ahead += timedelta(days=days)
        asyncio.run(lifecycle.sweep(self.server.emulator))

    @property
    def files(self) -> set[str]:
        return {path.name for path in self.server.emulator.blobs.iterdir()}


@pytest.fixture(scope="module")
def aging(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aging]:
    aging = Aging(tmp_path_factory.mktemp("aging"))
    with aging.server:
        yield aging


@pytest.fixture
def bucket(aging: Aging, request: pytest.FixtureRequest) -> Iterator[Bucket]:
    with httpx.Client(base_url=aging.server.url, timeout=60) as client:
        name = request.node.name.replace("_", "-")[:60]
        assert client.post("/storage/v1/b?project=aging", json={"name": name}).status_code == 200
        yield Bucket(client, name)


def test_soft_deleted_objects_go(aging: Aging, bucket: Bucket) -> None:
    before = aging.files
    generation = bucket.stored("x", os.urandom(100_000))["generation"]
    bucket.client.delete(bucket.object_path("x"))
    assert len(aging.files - before) == 1
    aging.pass_days(6.9)
    soft = {"generation": generation, "softDeleted": "true"}
    assert bucket.client.get(bucket.object_path("x"), params=soft).status_code == 200
    aging.pass_days(0.2)
    assert bucket.client.get(bucket.object_path("x"), params=soft).status_code == 404
    assert aging.files == before


def test_uploads_that_nobody_finishes_go(aging: Aging, bucket: Bucket) -> None:
    before = aging.files
    location = bucket.start("x")
    chunk = {"Content-Range": "bytes 0-262143/*"}
    assert bucket.client.put(location, content=bytes(262_144), headers=chunk).status_code == 308
    path = f"/{bucket.name}/y"
    upload = bucket.client.post(f"{path}?uploads").text.partition("<UploadId>")[2].partition("<")[0]
    assert bucket.client.put(f"{path}?partNumber=1&uploadId={upload}", content=b"part").status_code == 200
    finished = bucket.start("z")
    data = os.urandom(100_000)
    assert bucket.client.put(finished, content=data).status_code == 200
    assert len(aging.files - before) == 3
    aging.pass_days(7.1)
    assert bucket.client.put(location, headers={"Content-Range": "bytes */*"}).status_code == 404
    assert bucket.client.get(f"{path}?uploadId={upload}").status_code == 404
    assert len(aging.files - before) == 1
    assert bucket.data("z").content == data


def test_a_deleted_bucket_takes_everything_along(aging: Aging, bucket: Bucket) -> None:
    before = aging.files
    bucket.stored("x", os.urandom(100_000))
    bucket.client.delete(bucket.object_path("x"))
    location = bucket.start("x")
    chunk = {"Content-Range": "bytes 0-262143/*"}
    assert bucket.client.put(location, content=bytes(262_144), headers=chunk).status_code == 308
    path = f"/{bucket.name}/y"
    upload = bucket.client.post(f"{path}?uploads").text.partition("<UploadId>")[2].partition("<")[0]
    assert bucket.client.put(f"{path}?partNumber=1&uploadId={upload}", content=b"part").status_code == 200
    assert bucket.client.delete(bucket.path).status_code == 204
    assert aging.files == before
    assert bucket.client.put(location, headers={"Content-Range": "bytes */*"}).status_code == 404


def test_replaced_and_deleted_data_goes_at_once_without_soft_deletion(aging: Aging, bucket: Bucket) -> None:
    bucket.client.patch(bucket.path, json={"softDeletePolicy": {"retentionDurationSeconds": 0}})
    before = aging.files
    for _ in range(3):
        bucket.stored("x", os.urandom(100_000))
        assert len(aging.files - before) == 1
    bucket.client.post(f"{bucket.object_path('x')}/copyTo/b/{bucket.name}/o/y")
    bucket.client.delete(bucket.object_path("x"))
    assert len(aging.files - before) == 1
    bucket.client.delete(bucket.object_path("y"))
    assert aging.files == before
    bucket.stored("z", os.urandom(100_000))
    refused = bucket.put("z", os.urandom(100_000), ifGenerationMatch=0)
    assert refused.status_code == 412
    assert len(aging.files - before) == 1


def test_files_that_no_row_names_are_collected(aging: Aging, bucket: Bucket) -> None:
    data = os.urandom(100_000)
    bucket.stored("x", data)
    location = bucket.start("y")
    chunk = {"Content-Range": "bytes 0-262143/*"}
    assert bucket.client.put(location, content=bytes(262_144), headers=chunk).status_code == 308
    before = aging.files
    for name in ("0" * 32, "1" * 32 + ".partial"):
        (aging.server.emulator.blobs / name).write_bytes(b"left behind")
    assert lifecycle.collect_garbage(aging.server.emulator) == 2
    assert aging.files == before
    assert bucket.data("x").content == data
