"""Uploads of many small files at once and of large ones that go on where they were interrupted.

Both are create-only and meant for names made of the content: what is there already is not sent again, and another
content under the name is an error.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from urllib.parse import quote

from runner.environment import state_directory
from runner.errors import AlreadyExistsError, NotFoundError, RunnerError
from runner.gcp.failures import ATTEMPTS
from runner.gcp.object_http import FIELDS, ObjectClient, find, info_of, object_path
from runner.gcp.session import Session
from runner.gcp.storage import (
    STAGED,
    ObjectInfo,
    Progress,
    crc32c_of,
    crc32c_of_bytes,
    data_loss,
    parse_gs_uri,
    unchanged,
)

THREADS = 32
"""Uploads at once. With small objects the time goes into waiting for answers: about 30 ms each."""
SMALL_BYTES = 8 << 20
"""Sent in one request; what is larger is sent in pieces of this size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One file to upload."""

    path: Path
    uri: str
    content_type: str = "application/octet-stream"
    size: int = 0
    """Bytes, for the progress."""
    crc32c: str = ""
    """What the file must have, where the name is made of the content; "" for what it has when it is sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One object in its bucket."""

    info: ObjectInfo
    sent: bool
    """False when the same content was there already."""


def upload_many(
    session: Session,
    items: Iterable[Item],
    *,
    threads: int = THREADS,
    total: int = 0,
    progress: Progress | None = None,
) -> Iterator[Sent]:
    """Upload files in parallel and yield each as it is done, in any order.

    Memory is bounded by the number of threads: items are taken as they are needed.

    Args:
        session: connection.
        items: what to upload.
        threads: uploads at once.
        total: bytes of all items, for the progress.
        progress: called with bytes done and `total`.

    Raises:
        AlreadyExistsError: another content has an object's name.
        GoogleApiError: the service refused, or stored something else than was sent.
        OSError: a file cannot be read.
    """
    done = running = 0
    more = iter(items)
    lock = threading.Lock()
    results: SimpleQueue[Sent | BaseException | None] = SimpleQueue()
    stopped = threading.Event()

    def following() -> Item | None:
        with lock:
            return None if stopped.is_set() else next(more, None)

    def work(client: ObjectClient) -> None:
        try:
            while (item := following()) is not None:
                results.put(upload_one(client, item))
        except BaseException as error:
            # Whatever it is, it is raised where the caller can see it.
            results.put(error)
        finally:
            client.drop()
            results.put(None)

    with ObjectClient(session) as client:
        workers = [threading.Thread(target=work, args=(client,), name="upload") for _ in range(threads)]
        try:
            for worker in workers:
                worker.start()
                running += 1
            while running:
                result = results.get()
                if result is None:
                    running -= 1
                    continue
                if isinstance(result, BaseException):
                    raise result
                done += result.info.size
                if progress:
                    progress(min(done, total), total)
                yield result
        finally:
            stopped.set()
            for worker in workers:
                if worker.ident is not None:
                    worker.join()


def stored_under(session: Session, prefix_uri: str, expected: int) -> dict[str, str]:
    """Return address and CRC32C of the objects under a prefix, or of the first of them by name.

    A list does not say the CRC32C of an object whose key the customer manages: it is "".

    Args:
        session: connection.
        prefix_uri: a `gs://` folder.
        expected: how many are interesting: a folder with far more objects is not listed to its end.
    """
    bucket, prefix = parse_gs_uri(prefix_uri)
    found: dict[str, str] = {}
    token = ""
    with ObjectClient(session) as client:
        for _ in range(10 + expected // 500):
            query = f"prefix={quote(prefix, safe='')}&maxResults=1000&fields=nextPageToken,items(name,crc32c)"
            path = f"/storage/v1/b/{bucket}/o?{query}" + (f"&pageToken={quote(token, safe='')}" if token else "")
            page = client.request("GET", path, resource=prefix_uri, what="storage.objects.list").document()
            for item in page.get("items", []):
                found[f"gs://{bucket}/{item['name']}"] = str(item.get("crc32c", ""))
            token = str(page.get("nextPageToken", ""))
            if not token:
                break
    return found


def upload_one(client: ObjectClient, item: Item, *, progress: Callable[[int, int], None] | None = None) -> Sent:
    """Upload one file; see `upload_many`."""
    if item.path.stat().st_size > SMALL_BYTES:
        return _Resumable(client, item, progress).run()
    with item.path.open("rb", buffering=0) as stream:
        data = stream.read()
    checksum = unchanged(item.path, item.crc32c, crc32c_of_bytes(data))
    bucket, name = parse_gs_uri(item.uri)
    head = json.dumps({"name": name, "contentType": item.content_type, "crc32c": checksum, "metadata": STAGED})
    body = (
        b"--part\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n",
        head.encode(),
        b"\r\n--part\r\nContent-Type: application/octet-stream\r\n\r\n",
        data,
        b"\r\n--part--",
    )
    answer = client.request(
        "POST",
        f"/upload/storage/v1/b/{bucket}/o?uploadType=multipart&ifGenerationMatch=0&fields={FIELDS}",
        resource=item.uri,
        what="storage.objects.insert",
        body=body,
        headers={"Content-Type": 'multipart/related; boundary="part"'},
        expected=(200, 412),
    )
    if answer.status == 412:
        return Sent(info=_same(client, item, checksum, len(data)), sent=False)
    info = info_of(item.uri, answer.document(), method="storage.objects.insert")
    _verify(client, info, checksum, len(data))
    if progress:
        progress(len(data), len(data))
    return Sent(info=info, sent=True)


def _same(client: ObjectClient, item: Item, checksum: str, size: int) -> ObjectInfo:
    """Return the object that has the name already. Raises AlreadyExistsError if it has another content."""
    present = find(client, item.uri)
    if present is None or (present.crc32c, present.size) != (checksum, size):
        raise AlreadyExistsError(
            f"{item.uri} exists with another content",
            status="FAILED_PRECONDITION",
            http=412,
            method="storage.objects.insert",
            resource=item.uri,
            hint="choose another name or folder",
        )
    return present


def _verify(client: ObjectClient, info: ObjectInfo, checksum: str, size: int) -> None:
    if (info.crc32c, info.size) == (checksum, size):
        return
    method, path = "storage.objects.delete", f"{object_path(info.uri)}?ifGenerationMatch={info.generation}"
    with suppress(RunnerError):  # nobody may take it for what was to be sent
        client.request("DELETE", path, resource=info.uri, what=method, expected=(200, 204))
    problem = f"the stored content differs from what was sent (CRC32C {info.crc32c}, not {checksum})"
    raise data_loss(info.uri, problem, method="storage.objects.insert")


class _Resumable:
    """A large file: its upload's address is kept in the state directory, so that another process can go on."""

    def __init__(self, client: ObjectClient, item: Item, progress: Callable[[int, int], None] | None) -> None:
        self.client = client
        self.item = item
        self.progress = progress
        status = item.path.stat()
        self.size = status.st_size
        key = f"{item.path.resolve()}\n{item.uri}\n{self.size}\n{status.st_mtime_ns}"
        self.record = state_directory() / "uploads" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"
        self.checksum = unchanged(item.path, item.crc32c, crc32c_of(item.path))

    def run(self) -> Sent:
        present = find(self.client, self.item.uri)
        if present is not None:
            return Sent(info=_same(self.client, self.item, self.checksum, self.size), sent=False)
        address = self._resumed()
        offset = self._offset(address) if address else None
        if address is None or offset is None:
            address, offset = self._start(), 0
        try:
            info = self._send(address, offset)
        except AlreadyExistsError:  # another process was quicker
            info = None
        with suppress(OSError):
            self.record.unlink(missing_ok=True)
        if info is None:  # also where the answer to an earlier try was lost
            return Sent(info=_same(self.client, self.item, self.checksum, self.size), sent=True)
        _verify(self.client, info, self.checksum, self.size)
        return Sent(info=info, sent=True)

    def _resumed(self) -> str | None:
        try:
            found = json.loads(self.record.read_text("utf-8"))
        except (OSError, ValueError):
            return None
        same = isinstance(found, dict) and found.get("crc32c") == self.checksum
        return str(found["address"]) if same and isinstance(found.get("address"), str) else None

    def _start(self) -> str:
        bucket, name = parse_gs_uri(self.item.uri)
        body: dict[str, Any] = {"name": name, "contentType": self.item.content_type, "crc32c": self.checksum}
        body["metadata"] = STAGED
        answer = self.client.request(
            "POST",
            f"/upload/storage/v1/b/{bucket}/o?uploadType=resumable&ifGenerationMatch=0&name={quote(name, safe='')}",
            resource=self.item.uri,
            what="storage.objects.insert",
            body=[json.dumps(body).encode()],
            headers={"Content-Type": "application/json", "X-Upload-Content-Length": str(self.size)},
        )
        address = answer.headers.get("location", "")
        self.record.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        aside = self.record.with_suffix(f".{os.getpid()}")
        # Whoever has the address can write the object: nobody else may read it.
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            json.dump({"address": address, "crc32c": self.checksum, "uri": self.item.uri}, stream)
        aside.rename(self.record)
        return address

    def _offset(self, address: str) -> int | None:
        """Return how many bytes the service has; None if it does not know the upload any more."""
        answer = self._put(address, [], f"bytes */{self.size}", expected=(200, 201, 308, 400, 404, 410, 412, 499))
        if answer.status == 308:
            return _received(answer.headers.get("range"))
        return self.size if answer.status in {200, 201} else None

    def _send(self, address: str, offset: int) -> ObjectInfo | None:
        stuck = 0
        with self.item.path.open("rb") as stream:
            while offset < self.size:
                stream.seek(offset)
                data = stream.read(SMALL_BYTES)
                last = offset + len(data)
                if not data:
                    raise RunnerError(f"{self.item.path} became shorter while it was uploaded")
                answer = self._put(address, [data], f"bytes {offset}-{last - 1}/{self.size}", expected=(200, 201, 308))
                if answer.status != 308:
                    self._tell(self.size)
                    return info_of(self.item.uri, answer.document(), method="storage.objects.insert")
                before, offset = offset, _received(answer.headers.get("range"))
                stuck = 0 if offset > before else stuck + 1
                if offset > last or stuck >= ATTEMPTS:
                    problem = f"of {last} bytes that were sent, the service says to have {offset}"
                    raise data_loss(self.item.uri, problem, method="storage.objects.insert")
                self._tell(offset)
        return None

    def _tell(self, offset: int) -> None:
        if self.progress:
            self.progress(offset, self.size)

    def _put(self, address: str, data: list[bytes], span: str, *, expected: tuple[int, ...]) -> Any:
        try:
            return self.client.request(
                "PUT",
                address,
                resource=self.item.uri,
                what="storage.objects.insert",
                body=data,
                headers={"Content-Range": span},
                expected=expected,
            )
        except NotFoundError:
            with suppress(OSError):
                self.record.unlink(missing_ok=True)
            raise


def _received(span: str | None) -> int:
    last = (span or "").rpartition("-")[2]
    return int(last) + 1 if last.isdecimal() else 0
