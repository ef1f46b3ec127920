"""Objects and buckets of Cloud Storage: verified uploads and downloads.

Every transfer is checked by CRC32C, the only checksum that every object has; MD5 is missing on composed ones.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from runner.errors import AlreadyExistsError, ConfigurationError, GoogleApiError, NotFoundError, RunnerError
from runner.gcp.failures import call
from runner.gcp.session import Session

if TYPE_CHECKING:
    from google.cloud.storage import Blob

Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in all."""

STAGED = {"managed-by": "open-model-tuning-runner", "runner-purpose": "staging"}
"""Metadata of files that were uploaded for a job."""
UPLOAD_CHUNK_BYTES = 8 * 1024 * 1024
READ_CHUNK_BYTES = 1024 * 1024
_URI = re.compile(r"gs://([a-z0-9][a-z0-9._-]{1,220}[a-z0-9])(?:/(.*))?", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectInfo:
    """One object as it is now."""

    uri: str
    size: int
    """Bytes."""
    crc32c: str
    """Base64 of the big-endian CRC32C, as the API writes it."""
    generation: int
    content_type: str = ""


def parse_gs_uri(uri: str) -> tuple[str, str]:
    """Return bucket and object name of a `gs://` address; the name is "" for a bucket.

    Object names are opaque: `..`, `#` and `?` are ordinary characters of them.

    Raises:
        ConfigurationError: it is no such address, or the name has a line break or more than 1024 bytes.
    """
    match = _URI.fullmatch(uri)
    name = (match[2] or "") if match else ""
    problem = ""
    if match is None:
        problem = "is not gs://BUCKET/NAME"
    elif "\n" in name or "\r" in name or "\0" in name:
        problem = "has a line break or NUL in its name"
    elif len(name.encode("utf-8", "surrogatepass")) > 1024:
        problem = "has a name of more than 1024 bytes"
    if problem or match is None:
        message = f"{uri!r} {problem}"
        raise ConfigurationError(message, problems=[message])
    return match[1], name


def crc32c_of(path: Path) -> str:
    """Return the CRC32C of a file, as the API writes it."""
    return digests_of(path)[1]


def digests_of(path: Path) -> tuple[str, str]:
    """Return the SHA-256 of a file in hexadecimal and its CRC32C, as the API writes it, of one reading. Raises OSError.

    Who names an object by its content hands the checksum to the upload: a file that changes in between is an error.
    """
    import google_crc32c

    sha256, crc32c = hashlib.sha256(), google_crc32c.Checksum()
    with path.open("rb") as stream:
        while chunk := stream.read(READ_CHUNK_BYTES):
            sha256.update(chunk)
            crc32c.update(chunk)
    return sha256.hexdigest(), base64.b64encode(crc32c.digest()).decode()


def unchanged(path: Path, expected: str, actual: str) -> str:
    """Return a file's CRC32C. Raises ConfigurationError if another one was `expected`; "" expects none."""
    if expected not in {"", actual}:
        problem = f"{path} has changed since it was read first"
        raise ConfigurationError(problem, problems=[problem], hint="run the command once more")
    return actual


def crc32c_of_bytes(content: bytes) -> str:
    """Return a CRC32C, as the API writes it."""
    import google_crc32c

    return base64.b64encode(google_crc32c.value(content).to_bytes(4, "big")).decode()


def upload_file(
    session: Session,
    path: Path,
    uri: str,
    *,
    crc32c: str = "",
    replace: bool = False,
    progress: Progress | None = None,
) -> ObjectInfo:
    """Upload a file, unless the object is there already with the same content.

    Its metadata says that this tool put it there (`STAGED`), so that it can be found again when nobody wants it.

    Args:
        session: where.
        path: what to send.
        uri: its address.
        crc32c: what the file must have; "" for what it has now.
        replace: write over another object.
        progress: called with bytes sent and bytes in all.

    Raises:
        AlreadyExistsError: another object has that name and `replace` is false.
        ConfigurationError: the file cannot be read or has another checksum, or the address is malformed.
        GoogleApiError: the service stored something else than was sent; it is deleted again.
    """
    parse_gs_uri(uri)
    try:
        checksum, size = unchanged(path, crc32c, crc32c_of(path)), path.stat().st_size
        with path.open("rb") as stream:
            return _upload(session, uri, stream, size, checksum, replace=replace, progress=progress, metadata=STAGED)
    except ValueError as error:  # the client's, for a file that ends before its size
        unchanged(path, checksum, crc32c_of(path))
        raise ConfigurationError(f"cannot upload {path}: {error}", problems=[str(error)]) from error
    except OSError as error:
        if not isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError):
            raise
        message = f"cannot read {path}: {error.strerror}"
        raise ConfigurationError(message, problems=[message]) from error


def upload_bytes(
    session: Session, content: bytes, uri: str, *, replace: bool = False, content_type: str = "application/octet-stream"
) -> ObjectInfo:
    """Write an object from memory; the same rules as `upload_file`."""
    import io

    return _upload(
        session,
        uri,
        io.BytesIO(content),
        len(content),
        crc32c_of_bytes(content),
        replace=replace,
        content_type=content_type,
    )


def read_bytes(session: Session, uri: str) -> bytes:
    """Return the content of an object, verified. Raises NotFoundError."""
    from runner.gcp.object_http import ObjectClient, open_object

    with ObjectClient(session) as client, open_object(client, uri)[1] as stream:
        return stream.read()


def stat(session: Session, uri: str) -> ObjectInfo | None:
    """Return what is stored under `uri` now, None if nothing is."""
    blob = _blob(session, uri)
    try:
        call("storage.objects.get", uri, blob.reload, idempotent=True)
    except NotFoundError:
        return None
    return _info(blob)


def exists(session: Session, uri: str) -> bool:
    """Tell whether an object has this name. Raises PermissionDeniedError when it cannot be told."""
    return stat(session, uri) is not None


def list_objects(session: Session, prefix_uri: str, *, limit: int | None = None) -> list[ObjectInfo]:
    """Return the objects whose name starts with that of `prefix_uri`, in order of name.

    Raises:
        NotFoundError: the bucket does not exist.
    """
    bucket, prefix = parse_gs_uri(prefix_uri)

    def pages() -> list[ObjectInfo]:
        found = session.storage.list_blobs(bucket, prefix=prefix or None, max_results=limit)
        return [_info(blob) for blob in found]

    return call("storage.objects.list", prefix_uri, pages, idempotent=True)


def _blob(session: Session, uri: str) -> Blob:
    bucket, name = parse_gs_uri(uri)
    if not name:
        message = f"{uri!r} names a bucket, not an object"
        raise ConfigurationError(message, problems=[message])
    return session.storage.bucket(bucket).blob(name)


def _info(blob: Any) -> ObjectInfo:
    return ObjectInfo(
        uri=f"gs://{blob.bucket.name}/{blob.name}",
        size=int(blob.size or 0),
        crc32c=str(blob.crc32c or ""),
        generation=int(blob.generation or 0),
        content_type=str(blob.content_type or ""),
    )


class _Counted:
    """A stream that tells how far it has been read."""

    def __init__(self, stream: IO[bytes], total: int, progress: Progress | None) -> None:
        self._stream = stream
        self._total = total
        self._progress = progress

    def read(self, size: int = -1) -> bytes:
        chunk = self._stream.read(size)
        if self._progress and chunk:
            self._progress(min(self._stream.tell(), self._total), self._total)
        return chunk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _upload(
    session: Session,
    uri: str,
    stream: IO[bytes],
    size: int,
    checksum: str,
    *,
    replace: bool,
    progress: Progress | None = None,
    content_type: str = "application/octet-stream",
    metadata: dict[str, str] | None = None,
) -> ObjectInfo:
    present = stat(session, uri)
    if present is not None and (present.crc32c, present.size) == (checksum, size):
        if progress:
            progress(size, size)
        return present
    if present is not None and not replace:
        raise AlreadyExistsError(
            f"{uri} exists with another content",
            status="FAILED_PRECONDITION",
            http=412,
            method="storage.objects.insert",
            resource=uri,
            hint="choose another name, or replace it with --replace",
        )
    blob = _blob(session, uri)
    if size > UPLOAD_CHUNK_BYTES:
        blob.chunk_size = UPLOAD_CHUNK_BYTES
    blob.crc32c = checksum
    if metadata:
        blob.metadata = dict(metadata)

    def send() -> None:
        stream.seek(0)
        # The precondition makes a repetition harmless and lets no other writer's object be overwritten unseen.
        blob.upload_from_file(
            _Counted(stream, size, progress),
            size=size,
            content_type=content_type,
            checksum="crc32c",
            if_generation_match=present.generation if present else 0,
        )

    try:
        call("storage.objects.insert", uri, send)
    except AlreadyExistsError:
        # A repetition whose first answer was lost meets its own object; anything else is another writer.
        now = stat(session, uri)
        if now is None or (now.crc32c, now.size) != (checksum, size):
            raise
        return now
    stored = _info(blob)
    if (stored.crc32c, stored.size) != (checksum, size):
        problem = f"the stored content differs from what was sent (CRC32C {stored.crc32c}, not {checksum})"
        with suppress(RunnerError):  # nobody may take it for what was to be sent
            call("storage.objects.delete", uri, lambda: blob.delete(if_generation_match=stored.generation))
        raise data_loss(uri, problem, method="storage.objects.insert")
    return stored


def data_loss(uri: str, problem: str, *, method: str) -> GoogleApiError:
    """Return the error for bytes, or what is said of them, that changed under way."""
    message = f"{method} {uri}: {problem}"
    return GoogleApiError(
        message, status="DATA_LOSS", http=500, method=method, resource=uri, hint="run the command once more"
    )
