"""`multipart/related` uploads: a JSON part, then the data, which may be too large for memory.

Clients differ: Google's library ends lines with CRLF, gcsfs with LF. The first delimiter line determines which.
"""

from __future__ import annotations

import re

from runner.emulator.storage.faults import bad_request

_BOUNDARY = re.compile(r""";\s*boundary\s*=\s*(?:"([^"]+)"|'([^']+)'|([^\s;]+))""", re.IGNORECASE)
_MAX_HEAD = 1024 * 1024
"""Maximum bytes before the data: delimiters, headers and the JSON part."""


def boundary_of(content_type: str) -> bytes:
    """Return the boundary of a multipart content type. Raises ApiError 400."""
    match = _BOUNDARY.search(content_type)
    if match is None:
        raise bad_request("Missing boundary in multipart Content-Type.", "badContent")
    return next(group for group in match.groups() if group is not None).encode("latin-1", "replace")


class RelatedParser:
    """Parses the body in pieces of any size and returns the data in pieces.

    `metadata` (the bytes of the first part) and `content_type` (of the second) are set after the first data was
    returned, and after `finish` at the latest.
    """

    def __init__(self, boundary: bytes) -> None:
        self._delimiter = b"--" + boundary
        self._buffer = b""
        self._end = b""
        """Line end and delimiter, which end the data."""
        self._skip = 0
        """Bytes at the start of the buffer that are not data."""
        self._closed = False
        self._started = False
        self.metadata = b""
        self.content_type = ""

    def feed(self, piece: bytes) -> bytes:
        """Parse a piece of the body; return the data that is certain. Raises ApiError 400."""
        if self._closed:
            return b""
        self._buffer += piece
        if not self._started:
            self._started = self._read_head()
            if not self._started:
                if len(self._buffer) > _MAX_HEAD:
                    raise bad_request("The metadata part of the multipart body is too large.", "badContent")
                return b""
        found = self._buffer.find(self._end)
        if found < 0:
            # The delimiter may have begun in these last bytes.
            return self._take(max(0, len(self._buffer) - len(self._end) + 1))
        tail = self._buffer[found + len(self._end) :][:2]
        if len(tail) < 2:
            return self._take(found)
        if tail != b"--":
            raise bad_request("Multipart body must have exactly two parts.", "badContent")
        self._closed = True
        return self._take(found)

    def _take(self, size: int) -> bytes:
        """Remove bytes from the buffer; return those of them that are data."""
        skip = min(self._skip, size)
        self._skip -= skip
        data, self._buffer = self._buffer[skip:size], self._buffer[size:]
        return data

    def finish(self) -> None:
        """Check that the body was complete. Raises ApiError 400."""
        if not self._closed:
            raise bad_request("Missing end boundary in multipart body.", "badContent")

    def _read_head(self) -> bool:
        """Consume everything before the data if it is complete."""
        start = self._find_first_delimiter()
        if start is None:
            return False
        newline, at = start
        between = newline + self._delimiter + newline
        blank = newline + newline
        headers_end = self._buffer.find(blank, at - len(newline))
        if headers_end < 0:
            return False
        first = headers_end + len(blank)
        # The first part may be empty: then its blank line is also the line end before the delimiter.
        middle = self._buffer.find(between, first - len(newline))
        if middle < 0:
            return False
        second = self._buffer.find(blank, middle + len(between) - len(newline))
        if second < 0:
            return False
        self.metadata = self._buffer[first : max(first, middle)]
        self.content_type = _content_type(self._buffer[middle + len(between) : second])
        # The line end before the data stays in the buffer: it may belong to the delimiter after empty data.
        self._end = newline + self._delimiter
        self._skip = len(newline)
        self._buffer = self._buffer[second + len(blank) - len(newline) :]
        return True

    def _find_first_delimiter(self) -> tuple[bytes, int] | None:
        """Return the line end and the start of the first part's headers."""
        at = self._buffer.find(self._delimiter)
        while at > 0 and self._buffer[at - 1 : at] != b"\n":
            at = self._buffer.find(self._delimiter, at + 1)
        if at < 0:
            return None
        after = at + len(self._delimiter)
        line_end = self._buffer.find(b"\n", after)
        if line_end < 0:
            return None
        newline = b"\r\n" if self._buffer[line_end - 1 : line_end] == b"\r" else b"\n"
        return newline, line_end + 1


def _content_type(headers: bytes) -> str:
    for line in headers.splitlines():
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-type":
            return value.strip().decode("latin-1")
    return ""
