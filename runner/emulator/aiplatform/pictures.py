"""Images in requests that are Cloud Storage addresses: the model's process gets their bytes."""

from __future__ import annotations

import base64
import json
from typing import Any

from runner.emulator.aiplatform.tuning_validation import split_uri
from runner.emulator.context import Emulator
from runner.emulator.errors import ApiError, invalid
from runner.emulator.storage import objects

_SCHEME = "gs://"
_MOST_BYTES = 20 * 2**20
"""Maximum size of one image."""


def embedded(emulator: Emulator, content: bytes) -> bytes:
    """Return the body of a request with the contents of its images.

    Raises:
        ApiError: INVALID_ARGUMENT for an image that does not exist, or is too large.
    """
    if _SCHEME.encode() not in content:
        return content
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return content  # its reader reports the error
    return json.dumps(_read(emulator, body)).encode()


def _read(emulator: Emulator, value: Any) -> Any:
    if isinstance(value, list):
        return [_read(emulator, item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("type") == "image_url":
        given = value.get("image_url")
        url = given.get("url") if isinstance(given, dict) else given
        if isinstance(url, str) and url.startswith(_SCHEME):
            return {"type": "image_url", "image_url": {"url": _data_url(emulator, url)}}
        return value
    return {key: _read(emulator, item) for key, item in value.items()}


def _data_url(emulator: Emulator, uri: str) -> str:
    bucket, name = split_uri(uri, "image_url")
    try:
        data = objects.read_bytes(emulator, bucket, name)
    except ApiError as error:
        raise invalid(f"Cannot fetch content from the provided URL {uri}: {error.message}") from error
    if len(data) > _MOST_BYTES:
        raise invalid(f"Cannot fetch content from the provided URL {uri}: it is larger than {_MOST_BYTES >> 20} MiB.")
    # The reader determines the image type from the first bytes.
    return f"data:application/octet-stream;base64,{base64.b64encode(data).decode()}"
