"""Protection of objects from deletion and replacement: holds and retention."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from runner.emulator.errors import ApiError
from runner.emulator.storage.faults import bad_request
from runner.emulator.storage.records import StoredObject

Json = dict[str, Any]

RELEASED = "eventBasedHoldReleased"
"""Setting: the end of an event-based hold in microseconds since 1970, at which the bucket's period starts."""


def check(home: Json, record: StoredObject, now: int) -> None:
    """Raise ApiError 403 if a version of bucket `home` is protected; `now` is microseconds since 1970."""
    if not ("retentionPolicy" in home or "Hold" in record.body or '"retention"' in record.body):
        return
    settings = record.settings
    for field, name in (("temporaryHold", "Temporary"), ("eventBasedHold", "Event-Based")):
        if settings.get(field):
            raise ApiError(
                "PERMISSION_DENIED",
                f"Object '{record.bucket}/{record.name}' is under active {name} hold and cannot be deleted, "
                "overwritten or archived until hold is removed.",
            )
    until = retained_until(home, record)
    if until is not None and datetime.fromtimestamp(now / 1_000_000, UTC) < until:
        raise ApiError(
            "PERMISSION_DENIED",
            f"Object '{record.bucket}/{record.name}' is subject to bucket's retention policy or object retention and "
            f"cannot be deleted or overwritten until {until.isoformat()}",
            reason="retentionPolicyNotMet",
        )


def retained_until(home: Json, record: StoredObject) -> datetime | None:
    """Return the end of a version's protection; None if there is none, or a hold has no end."""
    period = (home.get("retentionPolicy") or {}).get("retentionPeriod")
    if not period and '"retention"' not in record.body:
        return None
    settings = record.settings
    dates = []
    if period and settings.get("eventBasedHold"):
        return None
    if period:
        begin = settings.get(RELEASED, record.created)
        dates.append(datetime.fromtimestamp(begin / 1_000_000, UTC) + timedelta(seconds=int(period)))
    explicit = (settings.get("retention") or {}).get("retainUntilTime")
    if explicit:
        dates.append(datetime.fromisoformat(explicit).astimezone(UTC))
    return max(dates, default=None)


def check_retention(home: Json, before: Json, after: Json, now: int, *, override: bool) -> None:
    """Check a change of an object's own retention; `override` allows shortening an unlocked one.

    Args:
        home: stored fields of the bucket.
        before: settings of the object; {} for a new one.
        after: its settings after the change.
        now: microseconds since 1970.
        override: `overrideUnlockedRetention` of the request.

    Raises ApiError 400, 403.
    """
    old, new = before.get("retention") or {}, after.get("retention") or {}
    if old == new:
        return
    if new:
        if (home.get("objectRetention") or {}).get("mode") != "Enabled":
            raise bad_request("Object retention is not enabled on the bucket.", "invalid")
        if new.get("mode") not in ("Locked", "Unlocked") or "retainUntilTime" not in new:
            raise bad_request(f"Invalid value for retention: {json.dumps(new)[:200]}", "invalid")
        if datetime.fromisoformat(new["retainUntilTime"]).timestamp() * 1_000_000 <= now:
            raise bad_request("The retainUntilTime must be in the future.", "invalid")
    if not old:
        return
    shorter = not new or _until(new) < _until(old)
    if old["mode"] == "Locked" and (shorter or new.get("mode") != "Locked"):
        raise ApiError("PERMISSION_DENIED", "The retention of an object in mode Locked cannot be reduced or removed.")
    if (shorter or new.get("mode") != old["mode"]) and not override:
        raise ApiError(
            "PERMISSION_DENIED", "To reduce or remove the retention of an object, set overrideUnlockedRetention."
        )


def _until(retention: Json) -> datetime:
    return datetime.fromisoformat(retention["retainUntilTime"])


def check_policy(name: str, before: Json, after: Json) -> None:
    """Raise ApiError 403 if a bucket's locked retention policy would be shortened or removed."""
    old, new = before.get("retentionPolicy") or {}, after.get("retentionPolicy") or {}
    if not old.get("isLocked"):
        return
    if not new or int(new["retentionPeriod"]) < int(old["retentionPeriod"]):
        verb = "reduce retention duration of" if new else "remove"
        raise ApiError("PERMISSION_DENIED", f"Cannot {verb} a locked Retention Policy for bucket '{name}'.")
