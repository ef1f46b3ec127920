"""Compare the CPU time for uploading many small files and reading a large object with that of Google's own client.

A simple server on this machine receives the objects, so that only the client is measured: the CPU time of its process
per object, alternately, without imports. The server delays the answer to each upload by some milliseconds, as a network
does.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import random
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import google_crc32c

from benchmarks.goals.figures import Run, at_least, at_most

_BUCKET = "upload-rate"
_LARGE_BYTES = 256 << 20
"""Size of the object that is read."""


def serve(port_file: Path, latency: float) -> None:
    """Answer uploads as the API does, with one thread per connection."""
    server = socket.create_server(("127.0.0.1", 0), backlog=256)
    port_file.write_text(str(server.getsockname()[1]))
    while True:
        connection, _ = server.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_answer, args=(connection, latency), daemon=True).start()


def _answer(connection: socket.socket, latency: float) -> None:
    stream = connection.makefile("rb", 1 << 20)
    while line := stream.readline():
        length, span = 0, b""
        while (header := stream.readline()) not in {b"\r\n", b""}:
            if header.lower().startswith(b"content-length:"):
                length = int(header.split(b":")[1])
            if header.lower().startswith(b"range:"):
                span = header.split(b"=")[1].strip()
        body = stream.read(length)
        answer = b"{}"
        if line.startswith(b"POST"):
            # multipart/related: a part of JSON, then the content, between lines of the boundary.
            boundary = body.split(b"\r\n", 1)[0]
            first, rest = body.split(b"\r\n\r\n", 1)[1].split(b"\r\n" + boundary, 1)
            content = rest.split(b"\r\n\r\n", 1)[1].rsplit(b"\r\n" + boundary, 1)[0]
            described = json.loads(first)
            checksum = base64.b64encode(google_crc32c.value(content).to_bytes(4, "big")).decode()
            answer = json.dumps(
                {
                    "kind": "storage#object",
                    "name": described["name"],
                    "bucket": _BUCKET,
                    "size": str(len(content)),
                    "crc32c": checksum,
                    "md5Hash": base64.b64encode(hashlib.md5(content).digest()).decode(),  # noqa: S324
                    "generation": "1",
                    "contentType": described.get("contentType", ""),
                    "storageClass": "STANDARD",
                    "timeCreated": "2026-11-29T00:00:00.000Z",
                    "updated": "2026-11-29T00:00:00.000Z",
                    "metadata": described.get("metadata", {}),
                    "metageneration": "1",
                }
            ).encode()
        if line.startswith(b"GET"):
            _content(connection, line, span)
            continue
        time.sleep(latency)
        connection.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=UTF-8\r\nX-GUploader-UploadID: x\r\n"
            b"Server: UploadServer\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer
        )


def _content(connection: socket.socket, line: bytes, span: bytes) -> None:
    """Answer with a large object of zeros, or with its metadata."""
    if b"alt=media" not in line:
        described = {"name": "large", "bucket": _BUCKET, "size": str(_LARGE_BYTES), "generation": "1"}
        described["crc32c"] = _checksum_of_zeros()
        body = json.dumps(described).encode()
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        connection.sendall(head % len(body) + body)
        return
    first, _, last = span.partition(b"-")
    start, end = int(first or 0), min(int(last or _LARGE_BYTES) + 1, _LARGE_BYTES)
    status = b"206 Partial Content" if span else b"200 OK"
    head = b"HTTP/1.1 %s\r\nContent-Length: %d\r\nContent-Range: bytes %d-%d/%d\r\n\r\n"
    connection.sendall(head % (status, end - start, start, end - 1, _LARGE_BYTES))
    zeros = memoryview(bytes(1 << 20))
    while start < end:
        connection.sendall(zeros[: min(len(zeros), end - start)])
        start += len(zeros)


@functools.cache
def _checksum_of_zeros() -> str:
    checksum, zeros = google_crc32c.Checksum(), bytes(1 << 20)
    for _ in range(_LARGE_BYTES >> 20):
        checksum.update(zeros)
    return base64.b64encode(checksum.digest()).decode()


def make(folder: Path, count: int, size: int) -> list[Path]:
    """Write files of about `size` bytes."""
    draw = random.Random(5)
    paths = []
    for number in range(count):
        path = folder / f"{number:06}.jpg"
        path.write_bytes(draw.randbytes(draw.randint(size // 2, size * 3 // 2)))
        paths.append(path)
    return paths


def ours(url: str, paths: list[Path], threads: int) -> Callable[[], None]:
    """Return a function that uploads with this package."""
    from runner.environment import Environment
    from runner.gcp.bulk_uploads import Item, upload_many
    from runner.gcp.session import Session

    session = Session(Environment(project="p", vertex_url=url, storage_url=url, token="t"))  # noqa: S106
    items = [Item(path=path, uri=f"gs://{_BUCKET}/{path.name}", size=path.stat().st_size) for path in paths]

    def run() -> None:
        assert sum(result.sent for result in upload_many(session, items, threads=threads)) == len(items)

    return run


def googles(url: str, paths: list[Path], threads: int) -> Callable[[], None]:
    """Return a function that uploads with Google's transfer manager, which also verifies the content."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud.storage import Client, transfer_manager

    anonymous = AnonymousCredentials()  # type: ignore[no-untyped-call]
    client = Client(project="p", credentials=anonymous, client_options={"api_endpoint": url})
    bucket = client.bucket(_BUCKET)

    def run() -> None:
        results = transfer_manager.upload_many_from_filenames(
            bucket,
            [path.name for path in paths],
            source_directory=str(paths[0].parent),
            max_workers=threads,
            worker_type=transfer_manager.THREAD,
            raise_exception=True,
            upload_kwargs={"checksum": "crc32c", "if_generation_match": 0},
        )
        assert len(results) == len(paths)

    return run


def readers(url: str) -> dict[str, Callable[[], None]]:
    """Return functions that read the large object in pieces of 1 MiB."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud.storage import Client

    from runner.environment import Environment
    from runner.gcp.downloads import open_object
    from runner.gcp.session import Session

    lean = Session(Environment(project="p", vertex_url=url, storage_url=url, token="t"))  # noqa: S106
    anonymous = AnonymousCredentials()  # type: ignore[no-untyped-call]
    client = Client(project="p", credentials=anonymous, client_options={"api_endpoint": url})

    def drain(stream: Any) -> None:
        count = 0
        while data := stream.read(1 << 20):
            count += len(data)
        assert count == _LARGE_BYTES

    return {
        "ours": lambda: drain(open_object(lean, f"gs://{_BUCKET}/large")[1]),
        "blob.open": lambda: drain(client.bucket(_BUCKET).blob("large").open("rb")),
    }


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def measure(run: Run) -> None:
    """Upload and read with both clients alternately."""
    count, repeats = {"full": (300, 3), "short": (150, 1), "tiny": (10, 1)}[run.size]
    threads, latency = 32, 30
    run.peers |= {"google-cloud-storage": version("google-cloud-storage")}
    files = run.folder / "files"
    files.mkdir()
    paths = make(files, count, 107_000)
    ready = run.folder / "port"
    command = [sys.executable, "-m", "benchmarks.goals.uploads", str(ready), str(latency)]
    server = subprocess.Popen(command)
    found: dict[str, list[tuple[float, float]]] = {}
    try:
        while not ready.exists() or not ready.read_text():
            time.sleep(0.05)
        url = f"http://127.0.0.1:{ready.read_text()}"
        runs = {"ours": ours(url, paths, threads), "google": googles(url, paths, threads)}
        runs |= {f"read, {name}": one for name, one in readers(url).items()}
        runs["ours"]()
        for _ in range(max(run.rounds, repeats)):
            for name, one in runs.items():
                before, started = _cpu(), time.perf_counter()
                one()
                found.setdefault(name, []).append((_cpu() - before, time.perf_counter() - started))
    finally:
        server.kill()
        server.wait()
    objects = {name: [cpu / count * 1000 for cpu, _ in found[name]] for name in ("ours", "google")}
    peer = "Google's transfer manager"
    run.value("uploading small objects: CPU time per object", objects["ours"], unit="CPU ms", goal=at_most(0.5))
    speeds = {name: [1000 / one for one in objects[name]] for name in objects}
    run.compare(
        "uploading small objects: throughput",
        speeds["ours"],
        speeds["google"],
        unit="objects/CPU s",
        peer=peer,
        goal=at_least(4),
    )
    bound = threads / (latency / 1000)
    shares = [100 * count / wall / bound for _, wall in found["ours"]]
    name = f"uploading small objects: share of the maximum rate of {threads} threads at {latency} ms per request"
    run.value(name, shares, unit="%", goal=at_least(70))
    rates = {name: [_LARGE_BYTES / cpu / 1e6 for cpu, _ in found[f"read, {name}"]] for name in ("ours", "blob.open")}
    run.compare(
        "reading a large object: throughput",
        rates["ours"],
        rates["blob.open"],
        unit="MB/CPU s",
        peer="`blob.open` of google-cloud-storage",
        goal=at_least(3),
    )


if __name__ == "__main__":
    serve(Path(sys.argv[1]), float(sys.argv[2]) / 1000)
