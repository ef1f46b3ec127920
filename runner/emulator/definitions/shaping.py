"""Responses of an older version: resources are stored in the newest version.

Fields that are missing in the older are removed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runner.emulator.definitions.documents import Document

OWN = frozenset({"emulator"})
"""Fields that this server adds to Google's messages."""


def shaped(document: Document, message: str, body: Any) -> Any:
    """Return a message without the fields that are not in its definition."""
    if not isinstance(body, Mapping) or message not in document.messages:
        return body
    fields: Mapping[str, str] = document.messages[message]["fields"]
    return {
        name: _value(document, fields[name].rstrip("-!?"), value) if name in fields else value
        for name, value in body.items()
        if name in fields or name in OWN or name == "@type"
    }


def _value(document: Document, kind: str, value: Any) -> Any:
    if kind.startswith("[") and isinstance(value, list):
        return [_value(document, kind[1:], item) for item in value]
    if kind == "{any" and isinstance(value, Mapping) and "@type" in value:
        # google.protobuf.Any: the response and the metadata of an operation.
        return shaped(document, str(value["@type"]).removeprefix(f"type.googleapis.com/{document.package}."), value)
    if kind.startswith("{") and isinstance(value, Mapping):
        return {key: _value(document, kind[1:], item) for key, item in value.items()}
    return shaped(document, kind[1:], value) if kind.startswith("@") else value
