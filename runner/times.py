"""Moments as the services write them: RFC 3339 in UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any


def read(text: Any) -> datetime | None:
    """Return the moment that a text names; None if it names none."""
    try:
        return datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None


def seconds_of(text: Any) -> float | None:
    """Return the moment that a text names, in seconds since 1970; None if it names none."""
    moment = read(text)
    return None if moment is None else moment.timestamp()


def exact(moment: datetime) -> str:
    """Return a moment in UTC with all its digits: `2026-08-01T12:00:00.123456Z`."""
    return moment.isoformat().replace("+00:00", "Z")


def to_seconds(moment: float) -> str:
    """Return a moment, given in seconds since 1970, without fractions: `2026-08-01T12:00:00Z`."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
