"""JSON as in Google's APIs, and field masks."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from runner.emulator.errors import invalid

_SNAKE = re.compile(r"_([a-z0-9])")
_SURROGATE = re.compile("[\ud800-\udfff]")
_CONTEXT = 20
"""Number of characters before and after an error's position in its message."""


def camel_name(name: str) -> str:
    """Return a field name in camelCase; camelCase names are unchanged."""
    return _SNAKE.sub(lambda match: match.group(1).upper(), name)


def loads(content: bytes) -> dict[str, Any]:
    """Return the JSON object of a body; {} if it is empty. Raises ApiError INVALID_ARGUMENT."""
    if not content.strip():
        return {}
    try:
        # As text, because the library would accept incomplete surrogate pairs, and UTF-16, in bytes.
        value = json.loads(content.decode("utf-8"), parse_constant=_no_constant)
        if b"\\u" in content and _SURROGATE.search(json.dumps(value, ensure_ascii=False)):
            raise ValueError("A string holds half of a surrogate pair.")
    except json.JSONDecodeError as error:
        raise invalid(f"Invalid JSON payload received. {_where(error)}") from error
    except (ValueError, RecursionError) as error:
        raise invalid(f"Invalid JSON payload received. {error}") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise invalid('Invalid JSON payload received. Unknown name "": Root element must be a message.')
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"Unexpected token.\n{name}\n^")


def _where(error: json.JSONDecodeError) -> str:
    """Return the message of Google's parser: the position, with a mark below it."""
    if error.pos >= len(error.doc):
        return "Unexpected end of string. Expected a value.\n\n^"
    begin = max(0, error.pos - _CONTEXT)
    shown = error.doc[begin : error.pos + _CONTEXT].replace("\n", " ")
    return f"Unexpected token.\n{shown}\n{' ' * (error.pos - begin)}^"


def mask_paths(mask: str | Iterable[str] | None) -> list[list[str]]:
    """Return the paths of a field mask with camelCase names. Raises ApiError INVALID_ARGUMENT."""
    parts = mask.split(",") if isinstance(mask, str) else list(mask or ())
    paths = [[camel_name(name.strip("`")) for name in part.strip().split(".")] for part in parts if part.strip()]
    if any(not name for path in paths for name in path):
        raise invalid(f"Invalid update_mask: {mask!r}")
    return paths
