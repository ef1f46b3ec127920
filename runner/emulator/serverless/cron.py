"""Schedules in the form of cron: minute, hour, day of the month, month, day of the week."""

from __future__ import annotations

from datetime import datetime, timedelta

from runner.emulator.errors import invalid

_RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_LONGEST = timedelta(days=366 * 5)


class Cron:
    """A schedule. Raises ApiError INVALID_ARGUMENT for an invalid one."""

    def __init__(self, text: str) -> None:
        fields = text.split()
        if len(fields) != len(_RANGES):
            raise invalid(f"Schedule or time zone is invalid: {text!r} has {len(fields)} fields of 5.")
        self._minutes, self._hours, self._days, self._months, weekdays = (
            _values(field, low, high) for field, (low, high) in zip(fields, _RANGES, strict=True)
        )
        self._weekdays = {day % 7 for day in weekdays}
        self._either = fields[2] != "*" and fields[4] != "*"
        """If both days are given, one of them suffices."""

    def after(self, moment: datetime) -> datetime:
        """Return the first time after a given time."""
        time = moment.replace(second=0, microsecond=0) + timedelta(minutes=1)
        last = time + _LONGEST
        while time < last:
            if time.month not in self._months or not self._on(time):
                time = time.replace(hour=0, minute=0) + timedelta(days=1)
            elif time.hour not in self._hours:
                time = time.replace(minute=0) + timedelta(hours=1)
            elif time.minute not in self._minutes:
                time += timedelta(minutes=1)
            else:
                return time
        raise invalid("Schedule or time zone is invalid: it never comes.")

    def _on(self, time: datetime) -> bool:
        of_month, of_week = time.day in self._days, time.isoweekday() % 7 in self._weekdays
        return (of_month or of_week) if self._either else (of_month and of_week)


def _values(field: str, low: int, high: int) -> set[int]:
    found: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        try:
            start = low if span == "*" else int(first)
            end = high if span == "*" or (step and not last) else int(last or first)
            stride = int(step or 1)
        except ValueError:
            raise invalid(f"Schedule or time zone is invalid: {field!r}.") from None
        if not (low <= start <= end <= high and stride > 0):
            raise invalid(f"Schedule or time zone is invalid: {field!r} is not within {low} to {high}.")
        found |= set(range(start, end + 1, stride))
    return found
