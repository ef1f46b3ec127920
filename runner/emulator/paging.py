"""Pages of a list, with opaque and authenticated tokens."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any, TypeVar

from runner.emulator.errors import invalid

T = TypeVar("T")

_MARK = b"omt1:"


def page(
    items: Sequence[T], page_size: Any, page_token: str | None, *, default: int = 100, maximum: int = 1000
) -> tuple[list[T], str]:
    """Return one page and the token of the next one; "" after the last.

    Args:
        items: the whole list, in an order that does not change between calls.
        page_size: from the query; absent, empty or 0 means `default`; more than `maximum` means `maximum`.
        page_token: from the query; absent or empty means the first page.
        default: default page size.
        maximum: maximum page size.

    Raises:
        ApiError: INVALID_ARGUMENT for an invalid size or a token that this server did not issue.
    """
    size = _size(page_size, default, maximum)
    start = _offset(page_token)
    end = start + size
    return list(items[start:end]), (_token(end) if end < len(items) else "")


def _size(value: Any, default: int, maximum: int) -> int:
    if value is None or value == "":
        return default
    try:
        size = int(value)
    except (TypeError, ValueError) as error:
        raise invalid(f"Invalid value at 'page_size' (TYPE_INT32), {value!r}") from error
    if size < 0:
        raise invalid("Page size must be non-negative.")
    return min(size or default, maximum)


def _token(offset: int) -> str:
    return base64.urlsafe_b64encode(_MARK + str(offset).encode()).decode().rstrip("=")


def _offset(token: str | None) -> int:
    if not token:
        return 0
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid("Invalid page token.") from error
    digits = raw.removeprefix(_MARK)
    if not raw.startswith(_MARK) or not digits.isdigit() or len(digits) > 12:
        raise invalid("Invalid page token.")
    return int(digits)
