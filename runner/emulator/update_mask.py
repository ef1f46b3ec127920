"""PATCH with a field mask (google.protobuf.FieldMask in its JSON form: comma-separated paths)."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from runner.emulator.errors import invalid
from runner.emulator.wire_json import camel_name


def apply(stored: dict[str, Any], patch: dict[str, Any], mask: str | Iterable[str] | None) -> dict[str, Any]:
    """Return `stored` with the masked fields taken from `patch`.

    A masked field absent from `patch` is removed. Paths may be camelCase or snake_case and reach into messages with
    dots. No mask, or `*`, means every field that `patch` has.

    Raises:
        ApiError: INVALID_ARGUMENT for a malformed path.
    """
    paths = _paths(mask)
    if not paths or paths == [["*"]]:
        return {**copy.deepcopy(stored), **copy.deepcopy(patch)}
    result = copy.deepcopy(stored)
    for path in paths:
        _copy_path(result, patch, path)
    return result


def _paths(mask: str | Iterable[str] | None) -> list[list[str]]:
    parts = mask.split(",") if isinstance(mask, str) else list(mask or ())
    paths = [[_segment(name) for name in part.strip().split(".")] for part in parts if part.strip()]
    if any(not name for path in paths for name in path):
        raise invalid(f"Invalid update_mask: {mask!r}")
    return paths


def _segment(name: str) -> str:
    return camel_name(name.strip("`"))


def _copy_path(target: dict[str, Any], source: Any, path: list[str]) -> None:
    *parents, last = path
    for name in parents:
        source = source.get(name) if isinstance(source, dict) else None
        below = target.get(name)
        if not isinstance(below, dict):
            below = target[name] = {}
        target = below
    if isinstance(source, dict) and last in source:
        target[last] = copy.deepcopy(source[last])
    else:
        target.pop(last, None)
