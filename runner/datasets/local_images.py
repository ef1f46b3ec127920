"""Images that a dataset names by local paths: uploaded under names made of their content, and named by these."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from runner.datasets.images import ImageError, read_header
from runner.datasets.json_lines import raw_lines
from runner.errors import DatasetError
from runner.gcp.bulk_uploads import Item, stored_under, upload_many
from runner.gcp.session import Session

MAX_IMAGE_BYTES = 64 << 20
_SUFFIXES = {"image/jpeg": ".jpg", "image/png": ".png", "image/webp": ".webp"}
_TYPES = {suffix: kind for kind, suffix in _SUFFIXES.items()}


@contextmanager
def uploaded(
    session: Session,
    paths: list[Path | None],
    destination: str | None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[list[Path | None]]:
    """Upload the local images of datasets and yield copies of the files that name the objects.

    A path is taken relative to its dataset and must lead to a regular file in or below the dataset's folder.

    Args:
        session: connection; its environment names the bucket when `destination` is None.
        paths: JSONL files; None is passed on.
        destination: `gs://bucket/prefix/`; images go below `images/` in it.
        progress: called with bytes done and bytes in all, of all images.

    Raises:
        DatasetError: an image is not there, outside the folder or no image; nothing was uploaded then.
    """
    if destination is None:
        session.environment.require("datasets_bucket")
        destination = f"gs://{session.environment.datasets_bucket}/datasets/"
    prefix = destination.rstrip("/") + "/images/"
    problems: list[dict[str, Any]] = []
    found: dict[Path, str] = {}
    for path in paths:
        if path is not None:
            _collect(path, prefix, found, problems)
    if problems:
        raise DatasetError(f"{len(problems)} images cannot be uploaded", findings=problems)
    # Content-addressed: an object of that name has that content, and is not sent again.
    items = {
        uri: Item(path=path, uri=uri, content_type=_TYPES[Path(uri).suffix], size=path.stat().st_size)
        for path, uri in found.items()
    }
    total = sum(item.size for item in items.values())
    present = stored_under(session, prefix, len(items)) if items else {}
    missing = [item for item in items.values() if present.get(item.uri) != item.size]
    before = total - sum(item.size for item in missing)
    for _ in upload_many(session, missing, total=total, progress=_after(progress, before)):
        pass
    with tempfile.TemporaryDirectory(prefix="runner-images-") as folder:
        yield [_rewrite(path, Path(folder), found) if path is not None else None for path in paths]


def _after(progress: Callable[[int, int], None] | None, before: int) -> Callable[[int, int], None] | None:
    """Return a progress that counts what was there already as done."""
    if progress is None:
        return None
    return lambda done, total: progress(min(before + done, total), total)


def addresses(body: Any) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield (object, key) of every image address in a line."""
    if isinstance(body, dict):
        for key, value in body.items():
            if key in {"url", "file_uri", "fileUri"} and isinstance(value, str):
                yield body, key
            else:
                yield from addresses(value)
    elif isinstance(body, list):
        for value in body:
            yield from addresses(value)


def is_local(address: str) -> bool:
    """Tell a path on this machine from an address."""
    return "://" not in address and not address.startswith("data:") and bool(address)


def _collect(path: Path, prefix: str, found: dict[Path, str], problems: list[dict[str, Any]]) -> None:
    root = path.resolve().parent
    for number, body in _bodies(path):
        for holder, key in addresses(body):
            address = holder[key]
            if not is_local(address):
                continue
            target = (root / address).resolve()
            if target in found:
                continue
            problem = ""
            if not target.is_relative_to(root):
                problem = "the path leads out of the dataset's folder"
            elif not target.is_file():
                problem = "no such file"
            elif target.stat().st_size > MAX_IMAGE_BYTES:
                problem = f"larger than {MAX_IMAGE_BYTES >> 20} MiB"
            else:
                try:
                    data = target.read_bytes()
                    header = read_header(data)
                    name = hashlib.sha256(data).hexdigest()[:32] + _SUFFIXES[header.mime_type]
                    found[target] = prefix + name
                except ImageError as error:
                    problem = error.message
            if problem:
                message = f"{address[:200]}: {problem}"
                problems.append(
                    {"code": "image-uri", "severity": "error", "file": path.name, "line": number, "message": message}
                )


def _bodies(path: Path) -> Iterator[tuple[int, Any]]:
    with path.open("rb") as stream:
        for raw in raw_lines(stream):
            try:
                yield raw.number, msgspec.json.decode(raw.data)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                continue  # the check names it


def _rewrite(path: Path, folder: Path, found: dict[Path, str]) -> Path:
    root = path.resolve().parent
    copy = folder / path.name
    with path.open("rb") as source, copy.open("wb") as target:
        for raw in raw_lines(source):
            line = raw.data
            try:
                body = msgspec.json.decode(line)
                changed = False
                for holder, key in addresses(body):
                    uri = found.get((root / holder[key]).resolve()) if is_local(holder[key]) else None
                    if uri is not None:
                        holder[key] = uri
                        changed = True
                if changed:
                    line = msgspec.json.encode(body)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                pass  # left as it is: the check names it
            target.write(line + b"\n")
    return copy
