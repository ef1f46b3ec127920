"""The fields of a bucket that a client sets."""

from __future__ import annotations

import json
import re
from typing import Any

from runner.emulator.regions import REGIONS
from runner.emulator.storage.buckets import DUAL_REGIONS, MULTI_REGIONS
from runner.emulator.storage.faults import bad_request

Json = dict[str, Any]

_DERIVED = frozenset(
    {"kind", "id", "selfLink", "name", "projectNumber", "metageneration", "etag", "timeCreated", "updated"}
    | {"locationType", "acl", "defaultObjectAcl", "owner", "generation", "satisfiesPZS", "satisfiesPZI"}
    | {"softDeleteTime", "hardDeleteTime"}
)
"""Fields a client cannot set here; ones it sends back from a read are ignored."""
_DERIVED_BELOW = {
    "retentionPolicy": ("effectiveTime", "isLocked"),
    "softDeletePolicy": ("effectiveTime",),
    "autoclass": ("toggleTime", "terminalStorageClassUpdateTime"),
}
_TYPES: Json = {
    "autoclass": {"enabled": bool, "terminalStorageClass": str},
    "billing": {"requesterPays": bool},
    "cors": list,
    "customPlacementConfig": {"dataLocations": list},
    "defaultEventBasedHold": bool,
    "encryption": {
        "defaultKmsKeyName": str,
        "googleManagedEncryptionEnforcementConfig": dict,
        "customerManagedEncryptionEnforcementConfig": dict,
        "customerSuppliedEncryptionEnforcementConfig": dict,
    },
    "hierarchicalNamespace": {"enabled": bool},
    "iamConfiguration": {
        "bucketPolicyOnly": {"enabled": bool, "lockedTime": str},
        "uniformBucketLevelAccess": {"enabled": bool, "lockedTime": str},
        "publicAccessPrevention": str,
    },
    "ipFilter": dict,
    "labels": dict,
    "lifecycle": {"rule": list},
    "location": str,
    "logging": {"logBucket": str, "logObjectPrefix": str},
    "objectRetention": {"mode": str},
    "retentionPolicy": {"retentionPeriod": int},
    "rpo": str,
    "softDeletePolicy": {"retentionDurationSeconds": int},
    "storageClass": str,
    "versioning": {"enabled": bool},
    "website": {"mainPageSuffix": str, "notFoundPage": str},
}
"""Fields to their types; `int` is an int64, which may be text."""
_CLASSES = {
    "STANDARD",
    "NEARLINE",
    "COLDLINE",
    "ARCHIVE",
    "MULTI_REGIONAL",
    "REGIONAL",
    "DURABLE_REDUCED_AVAILABILITY",
}
_LOCATIONS = MULTI_REGIONS | DUAL_REGIONS | {region.upper() for region in REGIONS}
_INT64 = re.compile(r"-?\d{1,19}\Z", re.ASCII)
_LABEL_KEY = re.compile(r"[^\W\d_A-Z][\w-]{0,62}\Z")
_LABEL_VALUE = re.compile(r"[\w-]{0,63}\Z")
_WEEK, _QUARTER = 7 * 86400, 90 * 86400
_CENTURY = 100 * 365 * 86400 + 25 * 86400
"""Seconds that a retention policy has at most (https://cloud.google.com/storage/docs/bucket-lock: 100 years)."""


def checked(body: Json) -> Json:
    """Return the fields of a request that a client may set. Raises ApiError 400."""
    settings = {key: value for key, value in body.items() if key not in _DERIVED}
    for key, names in _DERIVED_BELOW.items():
        if isinstance(settings.get(key), dict):
            settings[key] = {name: value for name, value in settings[key].items() if name not in names}
    _check_types(settings, _TYPES, "")
    _check_values(settings)
    _check_labels(settings.get("labels") or {})
    return settings


def _check_types(body: Json, types: Json, path: str) -> None:
    for key, value in body.items():
        if key not in types:
            place = f" at '{path.rstrip('.')}'" if path else ""
            raise bad_request(f'Invalid JSON payload received. Unknown name "{key}"{place}: Cannot find field.')
        wanted = types[key]
        if value is None:
            continue
        if isinstance(wanted, dict):
            if not isinstance(value, dict):
                raise bad_request(f"Invalid value for {path}{key}: not an object.")
            _check_types(value, wanted, f"{path}{key}.")
        elif not _is(value, wanted):
            raise bad_request(f"Invalid value for {path}{key}: {json.dumps(value)[:100]}")


def _is(value: object, wanted: type) -> bool:
    if wanted is int:
        return type(value) is int or (isinstance(value, str) and _INT64.match(value) is not None)
    return isinstance(value, wanted)


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
