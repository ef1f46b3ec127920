"""Verified downloads of whole folders: written aside and renamed, never outside the directory, never through a link."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path, PurePosixPath
from typing import IO, Any

from runner.errors import ConfigurationError, GoogleApiError, NotFoundError
from runner.gcp.failures import call
from runner.gcp.session import Session
from runner.gcp.storage import ObjectInfo, Progress, crc32c_of, list_objects, parse_gs_uri


def download_prefix(
    session: Session,
    prefix_uri: str,
    directory: Path,
    *,
    progress: Progress | None = None,
    force: bool = False,
) -> list[Path]:
    """Download every object under a prefix into `directory`, with their names relative to the prefix.

    Each file is written aside, verified and renamed, so that an interrupted download leaves no half file; files that
    are there already with the right content are kept.

    Args:
        session: where to read.
        prefix_uri: a `gs://` folder; a final slash is added if it is missing.
        directory: made if it is missing.
        progress: bytes done of all objects.
        force: replace files that are there with another content.

    Raises:
        NotFoundError: nothing is stored under the prefix.
        ConfigurationError: a name would leave the directory or pass through a link, or another file is in the way.
    """
    prefix_uri = prefix_uri.rstrip("/") + "/"
    bucket, prefix = parse_gs_uri(prefix_uri)
    objects = [item for item in list_objects(session, prefix_uri) if not item.uri.endswith("/")]
    if not objects:
        raise NotFoundError(
            f"nothing is stored under {prefix_uri}",
            status="NOT_FOUND",
            http=404,
            method="storage.objects.list",
            resource=prefix_uri,
        )
    directory.mkdir(parents=True, exist_ok=True)
    start = len(f"gs://{bucket}/{prefix}")
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


def _inside(directory: Path, name: str) -> Path:
    """Return the file for an object's relative name. Raises ConfigurationError if it would leave the directory."""
    parts = PurePosixPath(name).parts
    bad = not parts or name.startswith("/") or "\\" in name or "\0" in name or ":" in parts[0]
    if bad or any(part in {"", ".", ".."} for part in name.split("/")):
        message = f"object name {name!r} cannot become a file name"
        raise ConfigurationError(message, problems=[message])
    path = directory
    for part in parts[:-1]:
        path = path / part
        if path.is_symlink():
            message = f"{path} is a link; objects are not written through links"
            raise ConfigurationError(message, problems=[message])
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
    bucket, name = parse_gs_uri(item.uri)
    blob = session.storage.bucket(bucket).blob(name, generation=item.generation)
    descriptor, aside = tempfile.mkstemp(dir=path.parent, prefix=".download-")
    try:
        with os.fdopen(descriptor, "wb") as stream:

            def receive() -> None:
                stream.seek(0)
                stream.truncate()
                blob.download_to_file(_Received(stream, done, total, progress), raw_download=True, checksum="crc32c")

            call("storage.objects.get", item.uri, receive, idempotent=True)
            stream.flush()
            os.fsync(stream.fileno())
        if not _same(item, Path(aside)):
            raise GoogleApiError(
                f"{item.uri}: what arrived differs from what is stored (CRC32C)",
                status="DATA_LOSS",
                http=500,
                method="storage.objects.get",
                resource=item.uri,
            )
        Path(aside).chmod(0o666 & ~_umask())
        Path(aside).replace(path)
    finally:
        Path(aside).unlink(missing_ok=True)


def _umask() -> int:
    current = os.umask(0o077)
    os.umask(current)
    return current


class _Received:
    """A stream that tells how much has been written to it."""

    def __init__(self, stream: IO[bytes], done: int, total: int, progress: Progress | None) -> None:
        self._stream = stream
        self._done = done
        self._total = total
        self._progress = progress

    def write(self, chunk: bytes) -> int:
        count = self._stream.write(chunk)
        if self._progress:
            self._progress(min(self._done + self._stream.tell(), self._total), self._total)
        return count

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
