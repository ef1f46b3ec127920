"""Timestamps in the format of the services: RFC 3339 in UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any


def read(text: Any) -> datetime | None:
    """Return the time in a text; None if it contains none."""
    try:
        return datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None


def seconds_of(text: Any) -> float | None:
    """Return the time in a text, in seconds since 1970; None if it contains none."""
    moment = read(text)
    return None if moment is None else moment.timestamp()


def exact(moment: datetime) -> str:
    """Return a time in UTC with all its digits: `2026-08-01T12:00:00.123456Z`."""
    return moment.isoformat().replace("+00:00", "Z")


def to_seconds(moment: float) -> str:
    """Return a time in seconds since 1970 as text without fractions: `2026-08-01T12:00:00Z`."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
