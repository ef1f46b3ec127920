"""Customer-supplied encryption keys in requests (https://cloud.google.com/storage/docs/encryption/customer-supplied-keys).

The key's hash is stored and compared at every read, as on the service. The data itself is not encrypted here.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Any

from starlette.datastructures import Headers

from runner.emulator.storage.faults import bad_request
from runner.emulator.storage.parameters import has_any
from runner.emulator.storage.records import StoredObject

Json = dict[str, Any]

FIELD = "customerEncryption"
_PREFIX = "x-goog-encryption-"
_SOURCE_PREFIX = "x-goog-copy-source-encryption-"
_NAMES = frozenset(f"{prefix}{name}" for prefix in (_PREFIX, _SOURCE_PREFIX) for name in ("algorithm", "key"))


def given(headers: Headers, *, source: bool = False) -> Json | None:
    """Return an object's metadata about the key of a request; None without a key. Raises ApiError 400."""
    prefix = _SOURCE_PREFIX if source else _PREFIX
    if not has_any(headers, _NAMES):
        return None
    if f"{prefix}algorithm" not in headers and f"{prefix}key" not in headers:
        return None
    if headers.get(f"{prefix}algorithm") != "AES256":
        raise bad_request(
            "Unsupported encryption algorithm. The only supported one is AES256.",
            "customerEncryptionAlgorithmIsInvalid",
        )
    try:
        key = base64.b64decode(headers.get(f"{prefix}key", ""), validate=True)
    except (ValueError, binascii.Error):
        key = b""
    if len(key) != 32:
        raise bad_request(
            "The encryption key must be 32 bytes (256 bits) in base64.", "customerEncryptionKeyFormatIsInvalid"
        )
    digest = base64.b64encode(hashlib.sha256(key).digest()).decode()
    if headers.get(f"{prefix}key-sha256") != digest:
        raise bad_request(
            "The SHA256 hash of the encryption key does not match the key.", "customerEncryptionKeySha256IsInvalid"
        )
    return {"encryptionAlgorithm": "AES256", "keySha256": digest}


def check(record: StoredObject, key: Json | None) -> None:
    """Raise ApiError 400 unless a version's data can be read with this key, or without one."""
    if key is None and f'"{FIELD}"' not in record.body:
        return
    stored = record.settings.get(FIELD)
    if stored is None:
        raise bad_request(
            "The target object is not encrypted by a customer-supplied encryption key.",
            "resourceNotEncryptedWithCustomerEncryptionKey",
        )
    if key is None:
        raise bad_request(
            "The target object is encrypted by a customer-supplied encryption key.",
            "resourceIsEncryptedWithCustomerEncryptionKey",
        )
    if key != stored:
        raise bad_request("The provided encryption key is incorrect.", "customerEncryptionKeyIsIncorrect")
