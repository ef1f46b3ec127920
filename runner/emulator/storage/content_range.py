"""The `Content-Range` of a resumable upload's chunk."""

from __future__ import annotations

import re
from dataclasses import dataclass

from runner.emulator.storage.faults import bad_request

_CONTENT_RANGE = re.compile(r"bytes\s+(?:(\d{1,19})-(\d{1,19}|\*)|\*)/(\d{1,19}|\*)\s*\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class ContentRange:
    """The range of a chunk: its first byte and the one after its last (None without data), and the total if known."""

    begin: int | None
    end: int | None
    total: int | None


def parse_content_range(header: str | None) -> ContentRange:
    """Read `bytes 0-9/10`, `0-9/*`, `0-*/*`, `0-*/10`, `*/10` or `*/*`; no header means the complete data.

    Raises ApiError 400.
    """
    if header is None:
        return ContentRange(0, None, None)
    match = _CONTENT_RANGE.match(header)
    if match is None:
        raise bad_request(f"Failed to parse Content-Range header: {header!r}.", "badRequest")
    first, last, total_text = match.groups()
    total = None if total_text == "*" else int(total_text)
    if first is None:
        return ContentRange(None, None, total)
    begin = int(first)
    if last == "*":
        # All remaining data: Node's client streams this way.
        if total is not None and total < begin:
            raise bad_request(f"Failed to parse Content-Range header: {header!r}.", "badRequest")
        return ContentRange(begin, total, total)
    end = int(last) + 1
    if end <= begin or (total is not None and end > total):
        raise bad_request(f"Failed to parse Content-Range header: {header!r}.", "badRequest")
    return ContentRange(begin, end, total)
