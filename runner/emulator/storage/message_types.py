"""The types of bodies at any depth, from Google's definitions."""

from __future__ import annotations

from typing import Any

from runner.emulator.definitions import documents, parsing
from runner.emulator.storage.faults import bad_request

_DOCUMENT = "storage.v1"


def check_types(message: str, body: dict[str, Any]) -> None:
    """Check that a body is a message; null is a deletion. Raises ApiError 400 with Google's message."""
    document = documents.load(_DOCUMENT)
    assert document is not None, "it is part of this package"  # noqa: S101
    faults: parsing.Faults = []
    parsing.message(document, message).parse(_without_nulls(body), "", faults)
    if faults:
        raise bad_request(faults[0][1])


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return value
