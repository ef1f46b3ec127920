"""Uploaded images that no dataset uses any more. Datasets of any size are read in pieces of one mebibyte."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Any

from runner.errors import NotFoundError, RunnerError
from runner.gcp import storage
from runner.gcp.session import Session
from runner.gcp.storage import ObjectInfo, each_object

READ_BYTES = 2**30
"""If all datasets together are larger than this, they are read only on request."""
IMAGES_FOLDER = "/images/"
_CHUNK = 1 << 20
_NAME = re.compile(rb"[0-9a-f]{32}\.(?:jpg|png|webp)")
"""The name that `runner.datasets.images.uploads` gives to an image, which depends on its contents."""
_SUFFIX = re.compile(rb"\.(?:jpg|png|webp)")
"""Searched first: a search that starts with one fixed character is several times faster."""
_ESCAPED = re.compile(rb"\\u00([2-7][0-9a-fA-F])")
_OVERLAP = 6 * 40
"""A name with every character escaped."""


class UnknownNamesError(RunnerError):
    """The used images are unknown: a dataset cannot be read, or the datasets are too large to read by default."""


def is_image(item: ObjectInfo) -> bool:
    """Return whether an object is an image that this tool uploaded for a dataset."""
    name = item.uri.rsplit("/", 1)[-1].encode()
    ours = storage.STAGED.items() <= item.metadata.items()
    return ours and IMAGES_FOLDER in item.uri and _NAME.fullmatch(name) is not None


def unnamed(
    session: Session,
    images: Iterable[ObjectInfo],
    *,
    datasets: Collection[str],
    unwanted: Collection[str],
    read_all: bool = False,
) -> list[ObjectInfo]:
    """Return the images that no dataset uses. Reads nothing if there are no images.

    An image counts as used if its file name occurs anywhere, with any folder.

    Args:
        session: determines the datasets bucket, in which all objects except images are datasets.
        images: see `is_image`.
        datasets: addresses of further datasets, in any bucket.
        unwanted: addresses of datasets that do not count.
        read_all: read more than `READ_BYTES` if necessary.

    Raises:
        UnknownNamesError: the result is unknown.
        GoogleApiError, UnreachableError: the bucket cannot be listed.
    """
    left: dict[bytes, list[ObjectInfo]] = {}
    for image in images:
        left.setdefault(image.uri.rsplit("/", 1)[-1].encode(), []).append(image)
    if not left:
        return []
    sizes = _datasets(session, datasets, unwanted)
    total = sum(sizes.values())
    if total > READ_BYTES and not read_all:
        raise UnknownNamesError(
            f"{total / 2**30:.1f} GiB of datasets would be read", hint="to read them, pass --read-all-datasets"
        )
    for uri in sorted(sizes, key=sizes.__getitem__):
        if not left:
            break
        try:
            _strike_named(session, uri, left)
        except NotFoundError:
            continue  # deleted meanwhile
        except RunnerError as error:
            raise UnknownNamesError(f"{uri} cannot be read: {error.message}") from error
    return [image for items in left.values() for image in items]


def _datasets(session: Session, others: Collection[str], unwanted: Collection[str]) -> dict[str, int]:
    """Return the size of each dataset by its address."""
    bucket = f"gs://{session.environment.datasets_bucket}/"
    sizes = {
        item.uri: item.size
        for item in each_object(session, bucket)
        if item.uri not in unwanted and IMAGES_FOLDER not in item.uri
    }
    for uri in others:
        if uri.startswith("gs://") and not uri.startswith(bucket):
            try:
                info = storage.stat(session, uri)
            except RunnerError as error:
                raise UnknownNamesError(f"{uri} cannot be read: {error.message}") from error
            if info is not None:
                sizes[uri] = info.size
    return sizes


def _strike_named(session: Session, uri: str, left: dict[bytes, Any]) -> None:
    from runner.datasets.reading.compression import open_source
    from runner.datasets.reading.remote import remote_object

    with open_source(remote_object(session, uri)) as stream:
        before = b""
        while left and (chunk := stream.read(_CHUNK)):
            text = before + chunk
            before = text[-_OVERLAP:]
            if b"\\u00" in text:
                text = _ESCAPED.sub(lambda match: bytes([int(match[1], 16)]), text)
            for match in _SUFFIX.finditer(text):
                left.pop(text[max(0, match.start() - 32) : match.end()], None)
