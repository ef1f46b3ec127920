"""The `filter` of a listing: by the contexts of objects (https://cloud.google.com/storage/docs/listing-objects#filter-by-object-contexts)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from runner.emulator.storage.faults import bad_request
from runner.emulator.storage.records import StoredObject

Filter = Callable[[StoredObject], bool]

_TERM = re.compile(
    r'\s*(?P<no>-|NOT\s+)?contexts\."(?P<key>(?:[^"\\]|\\.)*)"\s*(?P<compare>:|=|!=)\s*'
    r'(?:"(?P<value>(?:[^"\\]|\\.)*)"|(?P<any>\*))\s*\Z'
)


def parse(text: str) -> Filter:
    """Read `contexts."KEY":*` or `contexts."KEY"="VALUE"`, either with `-` or `NOT` before it. Raises ApiError 400."""
    match = _TERM.match(text)
    if match is None or (match["any"] is None) == (match["compare"] == ":"):
        raise bad_request(f"Invalid value for filter: {text!r}", "invalidParameter")
    try:
        key = json.loads(f'"{match["key"]}"')
        value = None if match["value"] is None else json.loads(f'"{match["value"]}"')
    except ValueError as error:
        raise bad_request(f"Invalid value for filter: {text!r}", "invalidParameter") from error
    negated = bool(match["no"]) != (match["compare"] == "!=")

    def holds(record: StoredObject) -> bool:
        custom: dict[str, Any] = (record.settings.get("contexts") or {}).get("custom") or {}
        found = key in custom and value in (None, custom[key].get("value"))
        return found != negated

    return holds
