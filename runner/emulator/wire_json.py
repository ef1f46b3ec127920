"""The freedoms that proto JSON gives to a client, taken away at the door (R2 to R5).

Requests may spell fields in snake_case, enums as numbers and int64 as either number or string; answers never do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from runner.emulator.errors import invalid

MAP_FIELDS = frozenset(
    {"labels", "userLabels", "metadata", "annotations", "attributeMapping", "parameters", "dimensions"}
)
"""Fields whose keys are the user's own: what is below them is never renamed."""

_SNAKE = re.compile(r"_([a-z0-9])")
_FIELD_NAME = re.compile(r"[A-Za-z0-9_.*-]+")
_MAX_DEPTH = 50
_INT64 = re.compile(r"-?\d{1,19}\Z")


def camel_name(name: str) -> str:
    """Return a field name in camelCase; one that is so already stays."""
    return _SNAKE.sub(lambda match: match.group(1).upper(), name)


def camel(body: Any, *, maps: frozenset[str] = MAP_FIELDS) -> Any:
    """Return JSON with every field name in camelCase, at any depth, except inside `maps`.

    Raises:
        ApiError: INVALID_ARGUMENT when one field is given in both spellings.
    """
    if isinstance(body, list):
        return [camel(item, maps=maps) for item in body]
    if not isinstance(body, dict):
        return body
    result: dict[str, Any] = {}
    for key, value in body.items():
        name = camel_name(key)
        if name in result:
            raise invalid(f"Invalid JSON payload received. Field '{name}' is given twice.")
        keep = name in maps and isinstance(value, dict)
        result[name] = value if keep else camel(value, maps=maps)
    return result


def enum_name(value: Any, names: Sequence[str] | Mapping[int, str], *, field: str = "enum") -> str:
    """Return the name of an enum value that arrives as its name or its number.

    Args:
        value: what the client sent.
        names: the names by number: a sequence when the numbers are 0, 1, 2, …
        field: the field's name, for the error.

    Raises:
        ApiError: INVALID_ARGUMENT for a value that the enum does not have.
    """
    table: Mapping[int, str] = names if isinstance(names, Mapping) else dict(enumerate(names))
    if isinstance(value, str):
        if value in table.values():
            return value
        if value.isascii() and value.isdigit():
            value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and value in table:
        return table[value]
    raise invalid(f"Invalid value at '{field}' (TYPE_ENUM), {value!r}")


def int64(value: Any, *, field: str = "value") -> str:
    """Return an int64 as decimal text, given as text or number.

    Raises:
        ApiError: INVALID_ARGUMENT for anything else, or out of range.
    """
    number: int | None = None
    if isinstance(value, str):
        number = int(value) if value.isascii() and _INT64.match(value) else None
    elif not isinstance(value, bool) and (isinstance(value, int) or (isinstance(value, float) and value.is_integer())):
        number = int(value)
    if number is None or not -(2**63) <= number < 2**63:
        raise invalid(f"Invalid value at '{field}' (TYPE_INT64), {value!r}")
    return str(number)


def select(body: Any, fields: str | None) -> Any:
    """Return the part of an answer that the `fields` parameter asks for (`services/name,nextPageToken`, `a(b,c)`, `*`).

    Raises:
        ApiError: INVALID_ARGUMENT for a malformed selector.
    """
    if not fields or fields == "*":
        return body
    if fields.count("(") > _MAX_DEPTH:
        raise invalid("Invalid field selection: nested too deeply")
    tree, rest = _selector(fields)
    if rest:
        raise invalid(f"Invalid field selection {fields}")
    return _pick(body, tree)


def _selector(text: str) -> tuple[dict[str, Any], str]:
    """Parse up to the end or an unmatched `)`; return the tree of names and what is left."""
    tree: dict[str, Any] = {}
    while True:
        node = tree
        while True:
            match = _FIELD_NAME.match(text)
            if match is None:
                raise invalid(f"Invalid field selection {text}")
            node = node.setdefault(match.group(), {})
            text = text[match.end() :]
            if not text.startswith("/"):
                break
            text = text[1:]
        if text.startswith("("):
            below, text = _selector(text[1:])
            if not text.startswith(")"):
                raise invalid("Invalid field selection: unbalanced parentheses")
            node.update(below)
            text = text[1:]
        if not text.startswith(","):
            return tree, text
        text = text[1:]


def _pick(value: Any, tree: Any) -> Any:
    if not tree:
        return value
    if isinstance(value, list):
        return [_pick(item, tree) for item in value]
    if not isinstance(value, dict):
        return value
    every = tree.get("*")
    wanted = {key: tree.get(key, every) for key in value}
    return {key: _pick(item, wanted[key]) for key, item in value.items() if wanted[key] is not None}
