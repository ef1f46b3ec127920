"""What keeps an object from being deleted or replaced: holds and retention."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from runner.emulator.errors import ApiError
from runner.emulator.storage.records import StoredObject

Json = dict[str, Any]


def check(home: Json, record: StoredObject, now: int) -> None:
    """Raise ApiError 403 while a version of bucket `home` must stay; `now` is microseconds since 1970."""
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
    until = _retained_until(home, record, settings)
    if until is not None and datetime.fromtimestamp(now / 1_000_000, UTC) < until:
        raise ApiError(
            "PERMISSION_DENIED",
            f"Object '{record.bucket}/{record.name}' is subject to bucket's retention policy or object retention and "
            f"cannot be deleted or overwritten until {until.isoformat()}",
            reason="retentionPolicyNotMet",
        )


def _retained_until(home: Json, record: StoredObject, settings: Json) -> datetime | None:
    dates = []
    period = (home.get("retentionPolicy") or {}).get("retentionPeriod")
    if period:
        dates.append(datetime.fromtimestamp(record.created / 1_000_000, UTC) + timedelta(seconds=int(period)))
    explicit = (settings.get("retention") or {}).get("retainUntilTime")
    if explicit:
        dates.append(datetime.fromisoformat(explicit))
    return max(dates, default=None)
