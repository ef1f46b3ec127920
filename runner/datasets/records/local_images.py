"""Images on this machine that a dataset names by paths, or contains as bytes."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runner.datasets.examples import ImagePart
from runner.datasets.reading.sources import STDIN, Source
from runner.datasets.records.fields import UnfitError
from runner.datasets.rules.images import ImageError, ImageHeader, as_data_url, read_header

MAX_IMAGE_BYTES = 64 << 20


def read_local(root: Path, address: str) -> tuple[Path, bytes, ImageHeader]:
    """Return the file, the bytes and the header of an image that a dataset names by a path.

    Args:
        root: the dataset's folder, resolved; the image must be in it or below.
        address: path relative to it.

    Raises:
        ImageError: it is outside the folder, does not exist, is too large or is not an image.
    """
    try:
        target = (root / address).resolve()
        if not target.is_relative_to(root):
            problem = "the path leads out of the dataset's folder"
        elif not target.is_file():
            problem = "no such file"
        elif target.stat().st_size > MAX_IMAGE_BYTES:
            problem = f"larger than {MAX_IMAGE_BYTES >> 20} MiB"
        else:
            data = target.read_bytes()
            return target, data, read_header(data)
    except OSError as error:  # for example, the path is too long
        problem = error.strerror or "it cannot be read"
    except (ValueError, RuntimeError):  # the path contains a NUL, or its links form a circle
        problem = "no such file"
    raise ImageError("image-uri", problem)


def image_reader(source: Source) -> Callable[[Any], ImagePart]:
    """Return a function that reads the images of a dataset's records: addresses, paths, or bytes as in Parquet."""
    root = source.resolve().parent if isinstance(source, Path) and source != STDIN else None

    def read(value: Any) -> ImagePart:
        try:
            if isinstance(value, (bytes, bytearray)):
                return _inline(bytes(value), read_header(bytes(value)))
            if isinstance(value, str) and (inline := as_data_url(value)) is not None:
                return ImagePart(inline)
            if isinstance(value, str) and value and ":" not in value[:20] and root is not None:
                _, data, header = read_local(root, value)
                return _inline(data, header)
        except ImageError as error:
            shown = f"{value[:80]}: " if isinstance(value, str) else ""
            raise UnfitError(f"{shown}{error.message}") from None
        if isinstance(value, str) and value.startswith(("gs://", "data:")):
            return ImagePart(value)
        raise UnfitError("not the address of an object, and not an inline image")

    return read


def _inline(data: bytes, header: ImageHeader) -> ImagePart:
    return ImagePart(f"data:{header.mime_type};base64,{base64.b64encode(data).decode()}", mime_type=header.mime_type)
