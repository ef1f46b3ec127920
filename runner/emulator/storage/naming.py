"""Names of buckets and objects (https://cloud.google.com/storage/docs/buckets#naming, …/docs/objects#naming)."""

from __future__ import annotations

import re

from runner.emulator.storage.faults import bad_request

_COMPONENT = re.compile(r"[a-z0-9]([a-z0-9_-]*[a-z0-9])?\Z")
_ADDRESS = re.compile(r"\d{1,3}(\.\d{1,3}){3}\Z")
_MAX_OBJECT_NAME = 1024


def is_bucket_name(name: str) -> bool:
    """Return whether a bucket name is allowed."""
    if not 3 <= len(name) <= (222 if "." in name else 63) or _ADDRESS.match(name):
        return False
    if name.startswith("goog") or "google" in name or "g00gle" in name:
        return False
    return all(len(part) <= 63 and _COMPONENT.match(part) for part in name.split("."))


def check_bucket_name(name: object) -> str:
    """Return a valid bucket name. Raises ApiError 400."""
    if not isinstance(name, str) or not name:
        raise bad_request("Required parameter: name", "required")
    if not is_bucket_name(name):
        raise bad_request(f"Invalid bucket name: '{name}'")
    return name


def check_object_name(name: object) -> str:
    """Return a valid object name: 1 to 1024 bytes of UTF-8 without NUL, CR and LF. Raises ApiError 400."""
    if not isinstance(name, str) or not name:
        raise bad_request("Required parameter: name", "required")
    try:
        size = len(name.encode())
    except UnicodeEncodeError as error:
        raise bad_request("Object names must be valid UTF-8.") from error
    if size > _MAX_OBJECT_NAME:
        raise bad_request(f"The maximum object length is {_MAX_OBJECT_NAME} characters, but got a name with {size}.")
    if name in (".", "..") or any(forbidden in name for forbidden in "\0\r\n"):
        raise bad_request(f"Disallowed unicode characters present in object name '{name!r}'")
    if name.startswith(".well-known/acme-challenge/"):
        raise bad_request("Object names must not start with .well-known/acme-challenge/.")
    return name
