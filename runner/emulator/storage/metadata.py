"""The fields of an object that a client can set."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from runner.emulator.storage.faults import bad_request
from runner.emulator.storage.message_types import check_types

Json = dict[str, Any]

_TEXTS = {
    "contentType",
    "contentEncoding",
    "contentDisposition",
    "contentLanguage",
    "cacheControl",
    "storageClass",
    "customTime",
    "kmsKeyName",
}
_FLAGS = {"temporaryHold", "eventBasedHold"}
_OBJECTS = {"metadata", "retention", "contexts"}
_LISTS = {"acl"}
_NESTED = _OBJECTS | _LISTS
_MAPS = {"metadata", "contexts"}
"""Nested objects that a patch merges key by key."""
_SETTABLE = _TEXTS | _FLAGS | _OBJECTS | _LISTS
_KEPT = {"storageClass", "kmsKeyName", "acl", "customerEncryption", "eventBasedHoldReleased", "retention"}
"""Fields that an update does not change unless it names them."""
_IGNORED = frozenset(
    {"kind", "id", "selfLink", "mediaLink", "name", "bucket", "generation", "metageneration", "size", "etag"}
    | {"crc32c", "md5Hash", "componentCount", "timeCreated", "updated", "timeDeleted", "timeStorageClassUpdated"}
    | {"timeFinalized", "softDeleteTime", "hardDeleteTime", "owner", "retentionExpirationTime", "customerEncryption"}
)
"""Fields that the service sets; they are ignored, because clients send them back from a read."""
_MAX_CUSTOM = 8 * 1024
"""Bytes of custom metadata (https://cloud.google.com/storage/quotas#objects)."""


def checked(body: Json) -> Json:
    """Return the settable fields of a request; null means delete. Raises ApiError 400."""
    for key, value in body.items():
        if key in _IGNORED:
            continue
        if key not in _SETTABLE:
            raise bad_request(f'Invalid JSON payload received. Unknown name "{key}": Cannot find field.')
        wanted = str if key in _TEXTS else bool if key in _FLAGS else list if key in _LISTS else dict
        if value is not None and not isinstance(value, wanted):
            raise bad_request(f"Invalid value for {key}: {json.dumps(value)[:100]}")
    if not _NESTED.isdisjoint(body):
        check_types("Object", {key: body[key] for key in _NESTED & body.keys()})
    _check_times(body)
    custom = body.get("metadata")
    if custom:
        if not all(isinstance(value, str | None) for value in custom.values()):
            raise bad_request("Invalid value for metadata: values must be strings.")
        if sum(len(key.encode()) + len((value or "").encode()) for key, value in custom.items()) > _MAX_CUSTOM:
            raise bad_request("Custom metadata is larger than 8 KiB.", "metadataTooLarge")
    return {key: value for key, value in body.items() if key in _SETTABLE}


def _check_times(body: Json) -> None:
    for value in (body.get("customTime"), (body.get("retention") or {}).get("retainUntilTime")):
        if value is None:
            continue
        try:
            if datetime.fromisoformat(value).tzinfo is None:
                raise ValueError(value)
        except (TypeError, ValueError) as error:
            raise bad_request(f"Invalid time {json.dumps(value)}: it must be RFC 3339.") from error


def changed(before: Json, given: Json, *, replace: bool) -> Json:
    """Return the fields after a patch, or after an update if `replace`."""
    kept = _KEPT if replace else set(before)
    after = {key: value for key, value in before.items() if key in kept}
    for key, value in given.items():
        if value is None:
            after.pop(key, None)
        elif key in _MAPS:
            after[key] = merged({} if replace else before.get(key, {}), value)
        else:
            after[key] = value
    return {key: value for key, value in after.items() if key not in _MAPS or any(value.values())}


def merged(base: Json, changes: Json) -> Json:
    """Return `base` with `changes` merged in, recursively; null deletes."""
    result = dict(base)
    for key, value in changes.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            below = result.get(key)
            result[key] = merged(below if isinstance(below, dict) else {}, value)
        else:
            result[key] = value
    return result
