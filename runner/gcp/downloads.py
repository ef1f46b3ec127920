"""Verified downloads of whole folders: written aside and renamed, never outside the directory, never through a link."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path, PurePosixPath

from runner.errors import ConfigurationError, NotFoundError
from runner.gcp.object_http import ObjectClient, find, stream_of
from runner.gcp.session import Session
from runner.gcp.storage import READ_CHUNK_BYTES, ObjectInfo, Progress, crc32c_of, list_objects, parse_gs_uri


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
    listed = [item for item in list_objects(session, prefix_uri) if not item.uri.endswith("/")]
    if not listed:
        raise NotFoundError(
            f"nothing is stored under {prefix_uri}",
            status="NOT_FOUND",
            http=404,
            method="storage.objects.list",
            resource=prefix_uri,
        )
    with ObjectClient(session) as client:
        # Lists do not say the checksums of objects whose key the customer manages.
        objects = [item if item.crc32c else find(client, item.uri) or item for item in listed]
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
            _download(client, item, path, done, total, progress)
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


def _download(
    client: ObjectClient, item: ObjectInfo, path: Path, done: int, total: int, progress: Progress | None
) -> None:
    if path.is_file() and not path.is_symlink() and _same(item, path):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, aside = tempfile.mkstemp(dir=path.parent, prefix=".download-")
    try:
        with os.fdopen(descriptor, "wb") as target, stream_of(client, item) as stream:
            while chunk := stream.read(READ_CHUNK_BYTES):
                target.write(chunk)
                done += len(chunk)
                if progress:
                    progress(min(done, total), total)
            target.flush()
            os.fsync(target.fileno())
        Path(aside).chmod(0o666 & ~_umask())
        Path(aside).replace(path)
    finally:
        Path(aside).unlink(missing_ok=True)


def _umask() -> int:
    current = os.umask(0o077)
    os.umask(current)
    return current
