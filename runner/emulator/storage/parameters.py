"""Query parameters and headers, in the spellings of all clients."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.datastructures import Headers

from runner.emulator.storage.faults import bad_request

_FLAGS = {"true": True, "1": True, "false": False, "0": False, "": False}


def has_any(headers: Headers, names: frozenset[str]) -> bool:
    """Return whether a request has one of these headers, with one pass, because most requests have none."""
    return not names.isdisjoint(headers)


def integer(parameters: Mapping[str, str], key: str) -> int | None:
    """Return an int64 parameter, or None. Raises ApiError 400."""
    text = parameters.get(key)
    if text is None or text == "":
        return None
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 19:
        raise bad_request(f"Invalid value for {key}: '{text}'. It must be an integer.", "invalidParameter")
    return int(text)


def count(parameters: Mapping[str, str], key: str) -> int | None:
    """Return an integer of at least 0, or None. Raises ApiError 400."""
    number = integer(parameters, key)
    if number is not None and number < 0:
        raise bad_request(f"Invalid value for {key}: '{number}'", "invalidParameter")
    return number


def boolean(parameters: Mapping[str, str], key: str) -> bool:
    """Return a flag, in the client's case; False if it is absent. Raises ApiError 400."""
    text = parameters.get(key, "")
    flag = _FLAGS.get(text.lower())
    if flag is None:
        raise bad_request(f"Invalid value for {key}: '{text}'. It must be a boolean.", "invalidParameter")
    return flag
