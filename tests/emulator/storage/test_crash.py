"""Killed without warning: what was acknowledged is there, what was not leaves nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.emulator.storage.conftest import Bucket

_SERVER = """
import sys
from pathlib import Path
from runner.emulator.server import serve
from runner.emulator.settings import EmulatorSettings
settings = EmulatorSettings(directory=Path(sys.argv[1]), port=int(sys.argv[2]), stand_in="tiny")
serve(settings, ready_file=Path(sys.argv[3]))
"""


class Process:
    """A server in a process of its own, always on the same port."""

    def __init__(self, directory: Path) -> None:
        self.state = directory / "state"
        self._ready = directory / "url"
        self.log = directory / "server.log"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.start()

    def start(self) -> None:
        self._ready.unlink(missing_ok=True)
        command = [sys.executable, "-c", _SERVER, str(self.state), str(self._port), str(self._ready)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, stderr=log)
        limit = time.monotonic() + 60
        while not self._ready.exists():
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < limit, "the server did not start in time"
            time.sleep(0.02)
        self.url = self._ready.read_text()
        self.client = httpx.Client(base_url=self.url, timeout=60, transport=httpx.HTTPTransport(retries=50))

    def kill(self) -> None:
        self.client.close()
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(30)

    def bucket(self, name: str) -> Bucket:
        """Return a new bucket, or that of the life before."""
        created = self.client.post("/storage/v1/b?project=crash", json={"name": name})
        assert created.status_code in (200, 409), created.text
        return Bucket(self.client, name)


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    process = Process(tmp_path_factory.mktemp("crash"))
    yield process
    process.kill()


def _send_half(method: str, location: str, data: bytes, begin: int, total: int) -> socket.socket:
    """Send a request's head and half of its data; return the open connection."""
    address, _, path = location.removeprefix("http://").partition("/")
    host, port = address.split(":")
    connection = socket.create_connection((host, int(port)))
    head = f"{method} /{path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(data)}\r\n"
    head += f"Content-Range: bytes {begin}-{begin + len(data) - 1}/{total}\r\n\r\n"
    connection.sendall(head.encode() + data[: len(data) // 2])
    return connection


def wait_until(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < limit, "it did not happen in time"
        time.sleep(0.01)


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def test_a_resumable_upload_goes_on_after_kill_9(process: Process) -> None:
    data = os.urandom(4_000_000)
    location = process.bucket("resumed").start("x")
    first = process.client.put(location, content=data[:1_048_576], headers={"Content-Range": "bytes 0-1048575/*"})
    assert first.headers["range"] == "bytes=0-1048575"
    blobs = process.state / "blobs"
    before = _size(blobs)
    connection = _send_half("PUT", location, data[1_048_576:], 1_048_576, len(data))
    wait_until(lambda: _size(blobs) > before)
    process.kill()
    connection.close()
    process.start()
    status = process.client.put(location, headers={"Content-Range": "bytes */*"})
    assert status.status_code == 308
    begin = int(status.headers["range"].rpartition("-")[2]) + 1
    assert 1_048_576 <= begin < len(data)
    span = f"bytes {begin}-{len(data) - 1}/{len(data)}"
    assert process.client.put(location, content=data[begin:], headers={"Content-Range": span}).status_code == 200
    process.kill()
    process.start()
    assert process.bucket("resumed").data("x").content == data
    # The session remembers that it is finished, too.
    assert process.client.put(location, headers={"Content-Range": "bytes */*"}).status_code == 200


def test_an_unfinished_upload_leaves_no_object_and_no_file(process: Process) -> None:
    bucket, blobs = process.bucket("unfinished"), process.state / "blobs"
    before = set(blobs.iterdir())
    location = f"{process.url}/upload{bucket.path}/o?uploadType=media&name=x"
    connection = _send_half("POST", location, os.urandom(6_000_000), 0, 6_000_000)
    wait_until(lambda: bool(list(blobs.glob("*.partial"))))
    process.kill()
    connection.close()
    assert list(blobs.glob("*.partial"))
    process.start()
    assert process.bucket("unfinished").names() == []
    assert set(blobs.iterdir()) == before


def test_nothing_acknowledged_is_lost(process: Process) -> None:
    """Kill the server under writers, twice over."""
    process.bucket("acknowledged")
    acknowledged: dict[str, bytes] = {}

    def write(life: int, index: int) -> None:
        with httpx.Client(base_url=process.url, timeout=60) as client:
            bucket = Bucket(client, "acknowledged")
            for number in range(100_000):
                name, data = f"{life}/{index}/{number}", os.urandom(100_000 if number % 3 == 0 else 500)
                try:
                    if bucket.put(name, data).status_code == 200:
                        acknowledged[name] = data
                except httpx.TransportError:
                    return

    for life in range(2):
        threads = [threading.Thread(target=write, args=(life, index)) for index in range(4)]
        for thread in threads:
            thread.start()
        wait_until(lambda life=life: len(acknowledged) >= 20 * (life + 1))  # type: ignore[misc]
        process.kill()
        for thread in threads:
            thread.join()
        process.start()
    bucket = process.bucket("acknowledged")
    for name, data in acknowledged.items():
        assert bucket.data(name).content == data
    # Objects that were written but not acknowledged may be there, and are whole then.
    items = process.client.get(f"{bucket.path}/o").json()["items"]
    assert len(items) >= len(acknowledged)
    for item in items:
        assert len(bucket.data(item["name"]).content) == int(item["size"])


def test_a_multipart_upload_goes_on_after_kill_9(process: Process) -> None:
    part = os.urandom(5 * 1024 * 1024)
    process.bucket("in-parts")
    started = process.client.post("/in-parts/x?uploads")
    upload = started.text.partition("<UploadId>")[2].partition("<")[0]
    etag = process.client.put(f"/in-parts/x?partNumber=1&uploadId={upload}", content=part).headers["etag"]
    process.kill()
    process.start()
    last = process.client.put(f"/in-parts/x?partNumber=2&uploadId={upload}", content=b"end").headers["etag"]
    body = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>" for number, tag in [(1, etag), (2, last)]
    )
    done = process.client.post(
        f"/in-parts/x?uploadId={upload}", content=f"<CompleteMultipartUpload>{body}</CompleteMultipartUpload>"
    )
    assert done.status_code == 200, done.text
    assert process.bucket("in-parts").data("x").content == part + b"end"
