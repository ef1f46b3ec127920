"""Uploads images that a dataset names by local paths. Names derived from their content replace the paths."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from runner.datasets.examples import Finding
from runner.datasets.reading.lines import RawLine, raw_lines
from runner.datasets.reading.sources import STDIN, Source
from runner.datasets.records.local_images import read_local
from runner.datasets.rules.images import ImageError, as_data_url
from runner.errors import DatasetError
from runner.gcp.bulk_uploads import Item, upload_many
from runner.gcp.session import Session
from runner.gcp.storage import crc32c_of_bytes, each_object
from runner.wording import counted

_SUFFIXES = {"image/jpeg": ".jpg", "image/png": ".png", "image/webp": ".webp"}


@contextmanager
def uploaded(
    session: Session,
    paths: list[Path | None],
    sources: list[Source | None],
    destination: str | None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[list[Path | None]]:
    """Upload the local images of datasets and yield copies of the files that name the uploaded objects.

    A path is relative to its source and must lead to a regular file in the source's folder or below it.

    Args:
        session: connection; its environment determines the bucket if `destination` is None.
        paths: JSONL files; None is passed on.
        sources: the originals of the files, such as a compressed file.
        destination: `gs://bucket/prefix/`; images go below `images/` in it.
        progress: called with the number of bytes done and of all bytes, for all images.

    Raises:
        DatasetError: an image does not exist, is outside the folder or is not an image; nothing was uploaded.
    """
    prefix = (destination or session.environment.datasets_folder).rstrip("/") + "/images/"
    problems: list[dict[str, Any]] = []
    items: dict[Path, Item] = {}
    files = [source if isinstance(source, Path) and source != STDIN else None for source in sources]
    roots = [file.resolve().parent if file is not None else None for file in files]
    for path, root in zip(paths, roots, strict=True):
        if path is not None and root is not None:
            _collect(path, root, prefix, items, problems)
    if problems:
        raise DatasetError(f"{counted(len(problems), 'image')} cannot be uploaded", findings=problems)
    # The name depends on the content: an object with the same name and checksum is not sent again.
    named = {item.uri: item for item in items.values()}
    total = sum(item.size for item in named.values())
    # A folder with far more objects is not listed to its end: existing objects are not sent again anyway.
    listed = islice(each_object(session, prefix), 10_000 + 2 * len(named)) if named else ()
    present = {item.uri: item.crc32c for item in listed}
    missing = [item for item in named.values() if present.get(item.uri) != item.crc32c]
    before = total - sum(item.size for item in missing)
    for _ in upload_many(session, missing, total=total, progress=_after(progress, before)):
        pass
    with tempfile.TemporaryDirectory(prefix="runner-images-") as folder:
        yield [
            _rewrite(path, root, Path(folder), items) if path is not None and root is not None else path
            for path, root in zip(paths, roots, strict=True)
        ]


def _after(progress: Callable[[int, int], None] | None, before: int) -> Callable[[int, int], None] | None:
    """Return a progress callback that counts what existed before as done."""
    if progress is None:
        return None
    return lambda done, total: progress(min(before + done, total), total)


def addresses(body: Any, path: str = "") -> Iterator[tuple[dict[str, Any], str, str]]:
    """Yield object, key and JSON path of every image address in a line."""
    if isinstance(body, dict):
        for key, value in body.items():
            place = f"{path}.{key}" if path else key
            if key in {"url", "file_uri", "fileUri"} and isinstance(value, str):
                yield body, key, place
            else:
                yield from addresses(value, place)
    elif isinstance(body, list):
        for number, value in enumerate(body):
            yield from addresses(value, f"{path}[{number}]")


def is_local(address: str) -> bool:
    """Return whether an address is a path on this machine: neither a URL nor an image without its address."""
    return bool(address) and "://" not in address and not address.startswith("data:") and as_data_url(address) is None


def _collect(path: Path, root: Path, prefix: str, items: dict[Path, Item], problems: list[dict[str, Any]]) -> None:
    for raw, body in _bodies(path):
        for holder, key, place in addresses(body):
            address = holder[key]
            if not is_local(address):
                continue
            try:
                target, data, header = read_local(root, address)
                uri = prefix + hashlib.sha256(data).hexdigest()[:32] + _SUFFIXES[header.mime_type]
                kind, checksum = header.mime_type, crc32c_of_bytes(data)
                items[target] = Item(path=target, uri=uri, content_type=kind, size=len(data), crc32c=checksum)
            except ImageError as error:
                finding = Finding(
                    code="image-uri",
                    severity="error",
                    file=path.name,
                    line=raw.number,
                    path=place,
                    message=f"{address[:200]}: {error.message}",
                )
                problems.append(finding.to_json())


def _bodies(path: Path) -> Iterator[tuple[RawLine, Any]]:
    """Yield each line with its JSON value; None if it is not JSON, which the check reports."""
    with path.open("rb") as stream:
        for raw in raw_lines(stream):
            body = None
            with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                body = msgspec.json.decode(raw.data)
            yield raw, body


def _rewrite(path: Path, root: Path, folder: Path, items: dict[Path, Item]) -> Path:
    copy = folder / path.name
    with copy.open("wb") as target:
        for raw, body in _bodies(path):
            changed = False
            for holder, key, _ in addresses(body):
                item = items.get((root / holder[key]).resolve()) if is_local(holder[key]) else None
                if item is not None:
                    holder[key] = item.uri
                    changed = True
            target.write((msgspec.json.encode(body) if changed else raw.data) + b"\n")
    return copy
