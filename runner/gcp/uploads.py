"""Verified uploads: small files with one request, large ones in pieces that continue after an interruption.

Existing content is not sent again. Other content under the same name is an error, unless it is to be replaced.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from runner import local_files
from runner.environment import state_directory
from runner.errors import AlreadyExistsError, ConfigurationError, GoogleApiError, RunnerError
from runner.gcp.failures import ATTEMPTS, data_loss, document_of
from runner.gcp.rest import Response
from runner.gcp.session import Session
from runner.gcp.storage import (
    FIELDS,
    STAGED,
    ObjectInfo,
    crc32c_of,
    crc32c_of_bytes,
    info_of,
    object_url,
    parse_object_uri,
    stat,
)
from runner.json_text import parsed

Progress = Callable[[int, int], None]
"""Called with the number of uploaded bytes and of all bytes."""
SMALL_BYTES = 8 << 20
"""Maximum size for one request; larger files are sent in pieces of this size."""
UNASKED_BYTES = 1 << 20
"""Up to this size, an object is sent without a check whether it exists, because the check is also one request."""
_INSERT = "storage.objects.insert"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One object in its bucket."""

    info: ObjectInfo
    sent: bool
    """False if the same content already existed."""


def unchanged(path: Path, expected: str, actual: str) -> str:
    """Return a file's CRC32C. Raises ConfigurationError if another one was `expected`; "" expects none."""
    if expected not in {"", actual}:
        raise ConfigurationError(f"{path} has changed since it was first read", hint="run the same command again")
    return actual


def upload_file(
    session: Session,
    path: Path,
    uri: str,
    *,
    content_type: str = "application/octet-stream",
    crc32c: str = "",
    replace: bool = False,
    progress: Progress | None = None,
) -> Sent:
    """Upload a file, unless the object already exists with the same content.

    Its metadata says that this tool uploaded it (`STAGED`), so that it can be found when it is no longer used. The
    upload of a large file continues where another process was interrupted.

    Args:
        session: the connection.
        path: the file.
        uri: its address.
        content_type: content type of the object.
        crc32c: the required checksum of the file, if its name depends on the content; "" for no requirement.
        replace: replace another object.
        progress: called with the number of uploaded bytes and of all bytes.

    Raises:
        AlreadyExistsError: another object has this name and `replace` is false.
        ConfigurationError: the file cannot be read or has another checksum, or the address is invalid.
        GoogleApiError: the service refused, or stored other content, which is deleted again.
    """
    upload = _Upload(session, uri, content_type, STAGED, progress)
    try:
        status, data = _small(path)
        if data is not None:
            upload.checksum = unchanged(path, crc32c, crc32c_of_bytes(data))
            return upload.run(len(data), lambda generation: upload.whole(data, generation), replace=replace)
        upload.checksum = unchanged(path, crc32c, crc32c_of(path))
        key = f"{path.resolve()}\n{uri}\n{status.st_size}\n{status.st_mtime_ns}"
        return upload.run(status.st_size, _Pieces(upload, path, status.st_size, key).send, replace=replace)
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise local_files.unreadable(path, error) from error


def _small(path: Path) -> tuple[os.stat_result, bytes | None]:
    """Return a file's size and times, and a small file's content; with few system calls, as threads wait at each."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        status = os.fstat(descriptor)
        if status.st_size > SMALL_BYTES:
            return status, None
        data = os.read(descriptor, status.st_size + 1)
        if len(data) != status.st_size:  # the file changes
            while piece := os.read(descriptor, 1 << 20):
                data += piece
        return status, data
    finally:
        os.close(descriptor)


def upload_bytes(
    session: Session, content: bytes, uri: str, *, replace: bool = False, content_type: str = "application/octet-stream"
) -> ObjectInfo:
    """Write an object from memory with one request; the same rules as for `upload_file`."""
    upload = _Upload(session, uri, content_type, {}, None, crc32c_of_bytes(content))
    return upload.run(len(content), lambda generation: upload.whole(content, generation), replace=replace).info


def insert(session: Session, uri: str, resource: Mapping[str, Any], content: bytes, generation: int) -> ObjectInfo:
    """Write an object with one request if its generation is still `generation`; 0 means that it does not exist.

    Args:
        session: the connection.
        uri: its address.
        resource: fields of its JSON resource, including `contentType`.
        content: its bytes.
        generation: the generation that was read.

    Raises:
        AlreadyExistsError: the generation differs; also if the response to an earlier attempt was lost.
    """
    bucket, name = parse_object_uri(uri)
    boundary = _boundary()
    described = (
        f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n"
        f"{json.dumps({'name': name, **resource})}\r\n"
        f"--{boundary}\r\nContent-Type: {resource['contentType']}\r\n\r\n"
    )
    body = (described.encode(), content, f"\r\n--{boundary}--".encode())
    answer = session.ask(
        "POST",
        f"{session.environment.storage_base}/upload/storage/v1/b/{bucket}/o"
        f"?uploadType=multipart&ifGenerationMatch={generation}&fields={FIELDS}",
        _INSERT,
        uri,
        content=body,
        headers={"Content-Type": f'multipart/related; boundary="{boundary}"'},
        idempotent=True,  # the precondition makes a repetition harmless
    )
    return info_of(answer, uri, method=_INSERT)


@cache
def _boundary() -> str:
    """Return the boundary of requests: unpredictable for the author of a file; created once, as threads wait here."""
    return os.urandom(16).hex()


def delete(session: Session, uri: str, generation: int) -> None:
    """Delete an object if its generation is still this one. Raises AlreadyExistsError, NotFoundError."""
    params = {"ifGenerationMatch": str(generation)}
    session.send("DELETE", object_url(session, uri), "storage.objects.delete", uri, params=params, idempotent=True)


@dataclass(slots=True)
class _Upload:
    session: Session
    uri: str
    content_type: str
    metadata: dict[str, str]
    progress: Progress | None
    checksum: str = ""

    def resource(self) -> dict[str, Any]:
        """Return the JSON resource to store; with the checksum, the service refuses other content."""
        return {"contentType": self.content_type, "crc32c": self.checksum, "metadata": self.metadata}

    def whole(self, data: bytes, generation: int) -> ObjectInfo:
        """Send everything with one request."""
        return insert(self.session, self.uri, self.resource(), data, generation)

    def run(self, size: int, send: Callable[[int], ObjectInfo], *, replace: bool) -> Sent:
        """Send unless it exists; `send` gets the generation of the object that is replaced."""
        present = stat(self.session, self.uri) if size > UNASKED_BYTES else None
        for _ in range(2):
            if present is not None and (present.crc32c, present.size) == (self.checksum, size):
                self.tell(size, size)
                return Sent(info=present, sent=False)
            if present is not None and not replace:
                break
            try:
                info = send(present.generation if present else 0)
            except AlreadyExistsError:  # it existed, or another writer or this one's lost request wrote it
                present = stat(self.session, self.uri)
                continue
            self.verify(info, size)
            self.tell(size, size)
            return Sent(info=info, sent=True)
        raise AlreadyExistsError(
            f"{self.uri} exists with another content",
            status="FAILED_PRECONDITION",
            http=412,
            method=_INSERT,
            resource=self.uri,
            hint="choose another name or folder",
        )

    def verify(self, info: ObjectInfo, size: int) -> None:
        """Delete the stored object if it differs from the sent data, and then raise GoogleApiError."""
        if (info.crc32c, info.size) == (self.checksum, size):
            return
        with suppress(RunnerError):  # nobody may use it instead of the file's content
            delete(self.session, self.uri, info.generation)
        problem = f"the stored content differs from what was sent (CRC32C {info.crc32c}, not {self.checksum})"
        raise data_loss(self.uri, problem, method=_INSERT)

    def tell(self, done: int, total: int) -> None:
        """Report progress."""
        if self.progress:
            self.progress(done, total)


class _Pieces:
    """A large file: the state directory contains the address of its upload, so that another process can continue."""

    def __init__(self, upload: _Upload, path: Path, size: int, key: str) -> None:
        self.upload = upload
        self.path = path
        self.size = size
        self.record = state_directory() / "uploads" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"

    def send(self, generation: int) -> ObjectInfo:
        """Send the missing part. Raises AlreadyExistsError if the generation differs."""
        address = self._resumed(generation)
        offset = self._offset(address) if address else None
        if address is None or offset is None:
            address, offset = self.start(generation), 0
        try:
            return self._send(address, offset)
        except GoogleApiError as error:
            if error.http in {404, 410, 412}:
                self._forget()
            raise

    def start(self, generation: int) -> str:
        """Begin an upload, store its address, and return it."""
        bucket, name = parse_object_uri(self.upload.uri)
        answer = self.upload.session.send(
            "POST",
            f"{self.upload.session.environment.storage_base}/upload/storage/v1/b/{bucket}/o",
            _INSERT,
            self.upload.uri,
            params={"uploadType": "resumable", "ifGenerationMatch": str(generation), "fields": FIELDS},
            json={"name": name, **self.upload.resource()},
            headers={"X-Upload-Content-Length": str(self.size)},
            idempotent=True,  # an upload that no process continues is discarded
        )
        address = _path_in(answer.headers.get("location", ""))
        if not address:
            raise data_loss(self.upload.uri, "the answer does not say where to send the content", method=_INSERT)
        self.record.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        aside = self.record.with_suffix(f".{os.getpid()}")
        # Anybody with the address can write the object, so nobody else may read it.
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            json.dump({"address": address, "uri": self.upload.uri, **self._same(generation)}, stream)
        aside.rename(self.record)
        return address

    def _same(self, generation: int) -> dict[str, Any]:
        """Return the properties that a stored upload must have."""
        service = self.upload.session.environment.storage_base
        return {"crc32c": self.upload.checksum, "generation": generation, "service": service}

    def _resumed(self, generation: int) -> str | None:
        try:
            found = parsed(self.record.read_text("utf-8"))
        except (OSError, ValueError):
            return None
        same = isinstance(found, dict) and self._same(generation).items() <= found.items()
        return _path_in(str(found.get("address"))) or None if same else None

    def _offset(self, address: str) -> int | None:
        """Return the number of bytes that the service has; None if it no longer knows the upload."""
        answer = self._put(address, b"", f"bytes */{self.size}", expected=(308, 400, 404, 410, 412, 499))
        if answer.status_code == 308:
            return _received(answer)
        return self.size if answer.is_success else None

    def _send(self, address: str, offset: int) -> ObjectInfo:
        stuck = 0
        with self.path.open("rb", buffering=0) as stream:
            while True:
                stream.seek(offset)
                data = stream.read(min(SMALL_BYTES, self.size - offset))
                last = offset + len(data)
                # The service refuses a last piece with other numbers than announced, so the file is checked before.
                if last < self.size and os.fstat(stream.fileno()).st_size < self.size:
                    unchanged(self.path, self.upload.checksum, crc32c_of(self.path))
                    raise ConfigurationError(f"cannot read {self.path}: the file is shorter than its size")
                span = f"bytes {offset}-{last - 1}/{self.size}" if data else f"bytes */{self.size}"
                answer = self._put(address, data, span, expected=(308,))
                if answer.is_success:
                    self._forget()
                    return info_of(document_of(answer, _INSERT, self.upload.uri), self.upload.uri, method=_INSERT)
                before, offset = offset, _received(answer)
                stuck = 0 if offset > before else stuck + 1
                if offset > last or stuck >= ATTEMPTS:
                    problem = f"of {last} bytes that were sent, the service reports {offset}"
                    raise data_loss(self.upload.uri, problem, method=_INSERT)
                self.upload.tell(offset, self.size)

    def _put(self, address: str, data: bytes, span: str, *, expected: tuple[int, ...]) -> Response:
        return self.upload.session.send(
            "PUT",
            self.upload.session.environment.storage_base + address,
            _INSERT,
            self.upload.uri,
            content=data,
            headers={"Content-Range": span},
            expected=expected,
            idempotent=True,
        )

    def _forget(self) -> None:
        with suppress(OSError):
            self.record.unlink(missing_ok=True)


def _path_in(address: str) -> str:
    """Return the path and query of an upload's address; "" if it has none.

    Only these count: the content and the token are sent to the service of the request, regardless of the host in the
    response.
    """
    try:
        parts = urlsplit(address)
    except ValueError:
        return ""
    return f"{parts.path}?{parts.query}" if parts.path.startswith("/") and parts.query else ""


def _received(answer: Response) -> int:
    last = answer.headers.get("range", "").rpartition("-")[2]
    return int(last) + 1 if last.isdecimal() else 0
