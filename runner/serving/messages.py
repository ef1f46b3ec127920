"""Messages of a conversation: their texts, their images, and the file that stores them."""

from __future__ import annotations

import base64
import mimetypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runner import local_files
from runner.errors import ConfigurationError
from runner.json_text import parsed

VERSION = 1
"""Version of the conversation file."""
_LARGEST_IMAGE = 20 * 2**20


def read_messages(path: Path) -> list[dict[str, Any]]:
    """Return the messages of a saved conversation. Raises ConfigurationError."""
    try:
        body = parsed(local_files.read_text(path))
    except ValueError as error:
        raise _unusable(path, f"it is not a saved conversation: {error}") from error
    messages = body.get("messages") if isinstance(body, dict) and body.get("version") == VERSION else None
    if not isinstance(messages, list) or not all(
        isinstance(item, dict) and isinstance(item.get("role"), str) and "content" in item for item in messages
    ):
        raise _unusable(path, "it is not a saved conversation")
    return messages


def text_of(message: Mapping[str, Any]) -> str:
    """Return the text of a message, with images as `[image]`."""
    content = message.get("content", "")
    if isinstance(content, str):
        return content
    return " ".join(str(part.get("text", "[image]")) for part in content)


def image_part(source: str) -> dict[str, Any]:
    """Return the part of a message for an image: a `gs://`, `https://` or `data:` address, or a file.

    Raises:
        ConfigurationError: the file cannot be read, is not an image, or is too large.
    """
    if source.startswith(("gs://", "https://", "data:")):
        return {"type": "image_url", "image_url": {"url": source}}
    path = local_files.expanded(source)
    kind = mimetypes.guess_type(path.name)[0] or ""
    if not kind.startswith("image/"):
        raise _unusable(path, "its name does not end in an image extension, such as .png or .jpg")
    try:
        if path.stat().st_size > _LARGEST_IMAGE:
            raise _unusable(path, f"it is larger than {_LARGEST_IMAGE // 2**20} MiB")
        content = path.read_bytes()
    except (OSError, UnicodeDecodeError) as error:
        raise local_files.unreadable(path, error) from error
    return {"type": "image_url", "image_url": {"url": f"data:{kind};base64,{base64.b64encode(content).decode()}"}}


def _unusable(path: Path, why: str) -> ConfigurationError:
    return ConfigurationError(f"{path}: {why}")
