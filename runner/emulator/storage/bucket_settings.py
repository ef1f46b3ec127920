"""The fields of a bucket that a client can set."""

from __future__ import annotations

import json
import re
from typing import Any

from runner.emulator.regions import REGIONS
from runner.emulator.storage.buckets import DUAL_REGIONS, MULTI_REGIONS
from runner.emulator.storage.faults import bad_request
from runner.emulator.storage.message_types import check_types

Json = dict[str, Any]

_DERIVED = frozenset(
    {"kind", "id", "selfLink", "name", "projectNumber", "metageneration", "etag", "timeCreated", "updated"}
    | {"locationType", "acl", "defaultObjectAcl", "owner", "generation", "satisfiesPZS", "satisfiesPZI"}
    | {"softDeleteTime", "hardDeleteTime"}
)
"""Fields that a client cannot set; they are ignored, because clients send them back from a read."""
_DERIVED_BELOW = {
    "retentionPolicy": ("effectiveTime", "isLocked"),
    "softDeletePolicy": ("effectiveTime",),
    "autoclass": ("toggleTime", "terminalStorageClassUpdateTime"),
}
_CLASSES = {
    "STANDARD",
    "NEARLINE",
    "COLDLINE",
    "ARCHIVE",
    "MULTI_REGIONAL",
    "REGIONAL",
    "DURABLE_REDUCED_AVAILABILITY",
}
_ACTIONS = ("Delete", "SetStorageClass", "AbortIncompleteMultipartUpload")
_DAYS = ("age", "daysSinceCustomTime", "daysSinceNoncurrentTime", "numNewerVersions")
_LOCATIONS = MULTI_REGIONS | DUAL_REGIONS | {region.upper() for region in REGIONS}
_LABEL_KEY = re.compile(r"[^\W\d_A-Z][\w-]{0,62}\Z")
_LABEL_VALUE = re.compile(r"[\w-]{0,63}\Z")
_WEEK, _QUARTER = 7 * 86400, 90 * 86400
_CENTURY = 100 * 365 * 86400 + 25 * 86400
"""Maximum seconds of a retention policy (https://cloud.google.com/storage/docs/bucket-lock: 100 years)."""


def checked(body: Json) -> Json:
    """Return the fields of a request that a client can set. Raises ApiError 400."""
    settings = {key: value for key, value in body.items() if key not in _DERIVED}
    for key, names in _DERIVED_BELOW.items():
        if isinstance(settings.get(key), dict):
            settings[key] = {name: value for name, value in settings[key].items() if name not in names}
    check_types("Bucket", settings)
    _check_values(settings)
    _check_labels(settings.get("labels") or {})
    _check_lifecycle((settings.get("lifecycle") or {}).get("rule") or [])
    return settings


def _check_values(body: Json) -> None:
    storage_class = body.get("storageClass")
    if storage_class is not None and storage_class not in _CLASSES:
        raise bad_request(f"Invalid storage class: {storage_class!r}.")
    location = body.get("location")
    if location is not None and location.upper() not in _LOCATIONS:
        raise bad_request(f"The specified location constraint is not valid: {json.dumps(location)}.")
    prevention = (body.get("iamConfiguration") or {}).get("publicAccessPrevention")
    if prevention not in (None, "inherited", "enforced", "unspecified"):
        raise bad_request(f"Invalid value for publicAccessPrevention: {json.dumps(prevention)}")
    soft = int((body.get("softDeletePolicy") or {}).get("retentionDurationSeconds") or 0)
    if soft and not _WEEK <= soft <= _QUARTER:
        raise bad_request(f"Soft delete policy retention duration must be 0 or between {_WEEK} and {_QUARTER} seconds.")
    period = (body.get("retentionPolicy") or {}).get("retentionPeriod")
    if period is not None and not 0 < int(period) <= _CENTURY:
        raise bad_request(f"Invalid value for retentionPolicy.retentionPeriod: {period}.")


def _check_lifecycle(rules: list[Json]) -> None:
    for rule in rules:
        action, condition = rule.get("action") or {}, rule.get("condition") or {}
        if action.get("type") not in _ACTIONS:
            raise bad_request(
                f"Invalid lifecycle action: {json.dumps(action)}; its type is one of {', '.join(_ACTIONS)}."
            )
        if (action["type"] == "SetStorageClass") != (action.get("storageClass") in _CLASSES):
            raise bad_request("A lifecycle action has a storageClass if, and only if, its type is SetStorageClass.")
        if not {key: value for key, value in condition.items() if value not in (None, [])}:
            raise bad_request("A lifecycle rule must have at least one condition.")
        for key in _DAYS:
            if int(condition.get(key) or 0) < 0:
                raise bad_request(f"Invalid lifecycle condition: {key} must not be negative.")


def _check_labels(labels: Json) -> None:
    if len(labels) > 64:
        raise bad_request("A bucket has at most 64 labels.")
    for key, value in labels.items():
        if not _is_label(key, _LABEL_KEY) or not (value is None or _is_label(value, _LABEL_VALUE)):
            raise bad_request(
                f"Invalid label {json.dumps({key: value}, ensure_ascii=False)}: keys and values have up to 63 "
                "lowercase letters, digits, underscores and dashes, and keys start with a letter."
            )


def _is_label(text: object, form: re.Pattern[str]) -> bool:
    return isinstance(text, str) and form.match(text) is not None and text == text.lower()
