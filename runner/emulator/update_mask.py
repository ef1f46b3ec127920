"""PATCH with a field mask (google.protobuf.FieldMask in its JSON form: comma-separated paths)."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from runner.emulator.wire_json import mask_paths


def apply(
    stored: dict[str, Any], patch: dict[str, Any], mask: str | Iterable[str] | None, *, every: Iterable[str] = ()
) -> dict[str, Any]:
    """Return `stored` with the masked fields taken from `patch`.

    A masked field that is absent in `patch` is removed. Paths can be camelCase or snake_case and refer to nested fields
    with dots. No mask means every field of `patch`; `*` replaces the resource (AIP-134).

    Args:
        stored: the resource.
        patch: the client's resource.
        mask: the paths.
        every: fields for `*`, if a client may not change all of them.

    Raises:
        ApiError: INVALID_ARGUMENT for an invalid path.
    """
    paths = mask_paths(mask)
    if not paths:
        return {**copy.deepcopy(stored), **copy.deepcopy(patch)}
    if ["*"] in paths:
        paths = [[name] for name in every or {**stored, **patch}]
    result = copy.deepcopy(stored)
    for path in paths:
        _copy_path(result, patch, path)
    return result


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
