"""Verified downloads: streams of objects, and whole folders, never outside the directory or through a link."""

from __future__ import annotations

import base64
import contextlib
import io
import os
import tempfile
import time
from pathlib import Path, PurePosixPath
from typing import Any

from runner import local_files
from runner.errors import ConfigurationError, NotFoundError
from runner.formatting import size
from runner.gcp import rest
from runner.gcp.failures import ATTEMPTS, PASSING, data_loss, pause, raise_from
from runner.gcp.rest import Response, StatusError, TransportError
from runner.gcp.session import Session
from runner.gcp.storage import READ_CHUNK_BYTES, ObjectInfo, crc32c_of, existing, list_objects, object_url, parse_gs_uri
from runner.gcp.uploads import Progress
from runner.waiting import waiting

_GET = "storage.objects.get"
_LONGEST_NAME = 255
"""Maximum bytes of one part of a file's path, on all common file systems."""
_SLOWEST_BYTES = 1024
"""Bytes per second: a response that is slower for two minutes is requested again."""
_PIECE_BYTES = 128 * 1024
"""Maximum bytes of one read, so that slow progress is reported."""


def read_bytes(session: Session, uri: str) -> bytes:
    """Return the verified content of an object. Raises NotFoundError."""
    with open_object(session, uri)[1] as stream:
        return stream.read()


def open_object(session: Session, uri: str) -> tuple[ObjectInfo, io.BufferedReader]:
    """Return an object and a stream of its bytes, which the caller closes.

    The stream reads one version of the object, even if the object changes. It continues where it was after a broken
    connection, and compares the CRC32C at the end.

    Raises:
        NotFoundError: the object does not exist. While reading: GoogleApiError, ConnectionLostError.
    """
    found = existing(session, uri)
    return found, stream_of(session, found)


def stream_of(session: Session, info: ObjectInfo) -> io.BufferedReader:
    """Return a stream of the bytes of an existing object; see `open_object`."""
    what = f"{size(info.size)} of {info.uri}"
    return io.BufferedReader(_ObjectStream(session, info, what), READ_CHUNK_BYTES)


def download_prefix(
    session: Session,
    prefix_uri: str,
    directory: Path,
    *,
    progress: Progress | None = None,
    force: bool = False,
) -> list[Path]:
    """Download every object under a prefix into `directory`, with their names relative to the prefix.

    Each file is written to a temporary name, verified and renamed, so that an interrupted download leaves no incomplete
    file. Existing files with the right content are kept.

    Args:
        session: the connection.
        prefix_uri: a `gs://` folder; a missing final slash is added.
        directory: created if it does not exist.
        progress: called with the number of bytes for all objects.
        force: replace existing files with other content.

    Raises:
        NotFoundError: no object is under the prefix.
        ConfigurationError: a name would leave the directory or pass through a link, or another file exists.
    """
    prefix_uri = prefix_uri.rstrip("/") + "/"
    bucket, prefix = parse_gs_uri(prefix_uri)
    listed = [item for item in list_objects(session, prefix_uri) if not item.uri.endswith("/")]
    if not listed:
        raise NotFoundError(
            f"nothing is stored under {prefix_uri}",
            method="storage.objects.list",
            resource=prefix_uri,
        )
    # Lists contain no checksums for objects with customer-managed keys.
    objects = [item if item.crc32c else existing(session, item.uri) for item in listed]
    directory.mkdir(parents=True, exist_ok=True)
    start = len(f"gs://{bucket}/{prefix}")
    if unnamable := _unnamable([item.uri[start:] for item in objects]):
        raise ConfigurationError("; ".join(unnamable), problems=unnamable, hint="download the others one by one")
    targets = [(item, _inside(directory, item.uri[start:])) for item in objects]
    problems = [] if force else [_obstacle(item, path) for item, path in targets]
    problems = [problem for problem in problems if problem]
    if problems:
        raise ConfigurationError("; ".join(problems), problems=problems, hint="--force replaces them")
    total = sum(item.size for item in objects)
    done = 0
    for item, path in targets:
        _download(session, item, path, done, total, progress)
        done += item.size
        if progress:
            progress(done, total)
    return [path for _, path in targets]


def _unnamable(names: list[str]) -> list[str]:
    """Return why some of the names cannot be files in one folder, although they are valid object names."""
    known = set(names)
    problems = []
    for name in names:
        if any(len(part.encode()) > _LONGEST_NAME for part in name.split("/")):
            problems.append(f"object name {name[:80]!r}… is too long for a file")
        folders = [name[:place] for place, character in enumerate(name) if character == "/"]
        problems += [f"{name!r} needs a folder where {folder!r} is a file" for folder in folders if folder in known]
    return problems


def _inside(directory: Path, name: str) -> Path:
    """Return the file for an object's relative name. Raises ConfigurationError if it would leave the directory."""
    parts = PurePosixPath(name).parts
    bad = not parts or name.startswith("/") or "\\" in name or "\0" in name or ":" in parts[0]
    if bad or any(part in {"", ".", ".."} for part in name.split("/")):
        raise ConfigurationError(f"object name {name!r} cannot become a file name")
    path = directory
    for part in parts[:-1]:
        path = path / part
        if path.is_symlink():
            raise ConfigurationError(f"{path} is a link; objects are not written through links")
    return path / parts[-1]


def _obstacle(item: ObjectInfo, path: Path) -> str:
    if not path.exists() and not path.is_symlink():
        return ""
    return "" if _same(item, path) else f"{path} exists with another content"


def _same(item: ObjectInfo, path: Path) -> bool:
    return path.is_file() and path.stat().st_size == item.size and crc32c_of(path) == item.crc32c


def _download(session: Session, item: ObjectInfo, path: Path, done: int, total: int, progress: Progress | None) -> None:
    if path.is_file() and not path.is_symlink() and _same(item, path):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, aside = tempfile.mkstemp(dir=path.parent, prefix=".download-")
    try:
        with os.fdopen(descriptor, "wb") as target, _ObjectStream(session, item) as stream:
            while chunk := stream.read(_PIECE_BYTES):
                target.write(chunk)
                done += len(chunk)
                if progress:
                    progress(min(done, total), total)
            target.flush()
            os.fsync(target.fileno())
        Path(aside).chmod(local_files.new_mode())
        Path(aside).replace(path)
    finally:
        Path(aside).unlink(missing_ok=True)


class _ObjectStream(io.RawIOBase):
    """See `open_object`. `what` describes the wait until everything has arrived; "" if others report it."""

    def __init__(self, session: Session, info: ObjectInfo, what: str = "") -> None:
        import google_crc32c

        self._what = what
        self._wait = contextlib.ExitStack()

        self._session = session
        self._info = info
        self._position = 0
        self._checksum: Any = google_crc32c.Checksum()
        self._response: Response | None = None
        self._waited = 0.0
        """Seconds of waiting for the current response."""
        self._left_then = 0
        self._slow = 0
        """Number of responses that were too slow."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._info.size - self._position
        if self._what and not self._position:
            self._wait.enter_context(waiting(self._what))
            self._what = ""
        if not left:
            self._verify()  # of an empty object nothing has been
            return 0
        for attempt in range(1, ATTEMPTS + 1):
            try:
                if self._response is None:
                    self._response = self._ask(left)
                piece = self._timed(self._response, min(left, len(buffer)))
                if not piece:
                    raise TransportError(f"the connection ended {left} bytes before the object")
                break
            except (TransportError, StatusError) as error:
                self._slow += self._is_slow()
                self._drop()
                refused = isinstance(error, StatusError) and error.response.status_code not in PASSING
                if refused or ATTEMPTS in (attempt, self._slow):
                    raise_from(error, _GET, self._info.uri)
                time.sleep(pause(attempt, error))
        buffer[: len(piece)] = piece
        self._position += len(piece)
        self._checksum.update(piece)
        if len(piece) == left:
            self._wait.close()
            self._verify()
            self._drop()
        return len(piece)

    def close(self) -> None:
        """Return the connection to the pool if the object was read to its end, otherwise close it."""
        self._wait.close()
        self._drop()
        super().close()

    def _timed(self, response: Response, most: int) -> bytes:
        """Return the next data. Raises TransportError if too little has arrived for too long."""
        if self._is_slow():
            raise TransportError("the answer comes too slowly")
        began = time.monotonic()
        try:
            return response.read_piece(most)
        finally:
            self._waited += time.monotonic() - began

    def _is_slow(self) -> bool:
        """Return whether too little of the current response has arrived for too long."""
        came = self._left_then - (self._info.size - self._position)
        return self._waited > 2 * rest.TIMEOUT_SECONDS and came < self._waited * _SLOWEST_BYTES

    def _drop(self) -> None:
        response, self._response, self._waited = self._response, None, 0.0
        if response is not None:
            response.close()

    def _ask(self, left: int) -> Response:
        headers = {"Accept-Encoding": "gzip"}  # the stored bytes
        if self._position:
            headers["Range"] = f"bytes={self._position}-"
        params = {"alt": "media", "generation": str(self._info.generation)}
        url = object_url(self._session, self._info.uri, download=True)
        response = self._session.http.open("GET", url, params=params, headers=headers)
        if response.status_code not in {200, 206}:
            response.read()
            raise StatusError(response)
        if response.length not in {None, left}:
            response.close()
            raise TransportError(f"an answer of {response.length} bytes where {left} are left")
        self._waited, self._left_then = 0.0, left
        return response

    def _verify(self) -> None:
        found = base64.b64encode(self._checksum.digest()).decode()
        if found != self._info.crc32c:
            raise data_loss(self._info.uri, "what arrived differs from what is stored", method=_GET)
