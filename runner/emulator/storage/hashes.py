"""Checksums in a client's request, compared with those of the received data."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runner.emulator.storage.blobs import Payload
from runner.emulator.storage.faults import bad_request
from runner.emulator.storage.records import encode_crc32c


@dataclass(frozen=True, slots=True)
class Expected:
    """Checksums from the client, base64 as received; None if there is none."""

    crc32c: str | None = None
    md5: str | None = None

    @classmethod
    def of(cls, metadata: Mapping[str, Any], headers: Mapping[str, str]) -> Expected:
        """Read them from the object's metadata, `x-goog-hash` and `Content-MD5`. Raises ApiError 400."""
        found = {"crc32c": metadata.get("crc32c"), "md5": metadata.get("md5Hash")}
        for pair in headers.get("x-goog-hash", "").split(","):
            kind, separator, value = pair.strip().partition("=")
            if separator and kind in found:
                found[kind] = value
        found["md5"] = headers.get("content-md5") or found["md5"]
        for kind, length in (("crc32c", 4), ("md5", 16)):
            if found[kind] is not None:
                _check(kind, found[kind], length)
        return cls(found["crc32c"], found["md5"])

    def check(self, payload: Payload) -> None:
        """Compare. Raises ApiError 400."""
        actual = encode_crc32c(payload.crc32c)
        if self.crc32c is not None and self.crc32c != actual:
            raise bad_request(f'Provided CRC32C "{self.crc32c}" doesn\'t match calculated CRC32C "{actual}".')
        if self.md5 is not None and payload.md5 is not None:
            actual = base64.b64encode(payload.md5).decode()
            if self.md5 != actual:
                raise bad_request(f'Provided MD5 hash "{self.md5}" doesn\'t match calculated MD5 hash "{actual}".')


def _check(kind: str, value: object, length: int) -> None:
    try:
        if not isinstance(value, str) or len(base64.b64decode(value, validate=True)) != length:
            raise ValueError(value)
    except (ValueError, binascii.Error) as error:
        raise bad_request(f"Invalid {kind} value {value!r}: it must be base64 of {length} bytes.") from error
