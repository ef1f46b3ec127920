"""Pulumi's values as JSON."""

from __future__ import annotations

from typing import Any


def plain(value: Any) -> Any:
    """Return an input as JSON: secrets decrypted, whole floats (all numbers arrive as floats) as integers."""
    if isinstance(value, dict):
        if "4dabf18193072939515e22adb298388d" in value:  # Pulumi's marker of a wrapped value
            return plain(value.get("value"))
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
