"""A bill: its lines, its sums, and its output formats."""

from __future__ import annotations

import datetime
import io
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, Literal

from runner import times
from runner.formatting import visible
from runner.prices import amount
from runner.serving.billed import Billed
from runner.serving.leak import Leak

HOUR = 3600.0
COLUMNS = (
    *("kind", "name", "id", "quantity", "unit", "usd", "usdPerHour", "committedUsd", "from", "until", "running"),
    *("noLongerUsed", "standIn"),
)
KINDS = ("tuning", "serving", "storage")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """The cost of one job, deployed model or bucket."""

    kind: Literal["tuning", "serving", "storage"]
    name: str
    id: str
    """ID of the job or endpoint, or name of the bucket."""
    quantity: float
    unit: str
    """`tokens`, `hours` of all replicas, or `GiB`."""
    usd: float | None
    """Cost so far; None if no price is published, or the service has not counted yet."""
    usd_per_hour: float | None = 0.0
    """Hourly cost while it serves or is stored; 0 for tuning."""
    committed_usd: float | None = 0.0
    """Future cost without any action: the rest of the training, or the time until the lease ends.

    None if nothing ends it, no price is published, or the service has not counted yet.
    """
    start: float | None = None
    """Seconds since 1970."""
    end: float | None = None
    """None while it is running."""
    no_longer_used: str = ""
    """Why it is a leak; "" for resources in use."""
    stand_in: bool = False
    """Whether a stand-in's tokenizer counted the tokens, so that the real model's count differs."""
    by_day: dict[str, float] = field(default_factory=dict, compare=False)
    """Maps days in UTC to US dollars; the values add up to `usd`."""

    @property
    def running(self) -> bool:
        """Return whether its cost increases without any action."""
        return self.end is None

    @property
    def rest(self) -> str:
        """Describe the future cost; "" if there is none."""
        if not self.running:
            return ""
        if self.committed_usd is not None:
            return amount(self.committed_usd)
        return "not counted" if self.kind == "tuning" else "not published" if self.usd_per_hour is None else "no end"

    def to_json(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        return {
            "kind": self.kind,
            "name": self.name,
            "id": self.id,
            "quantity": round(self.quantity, 4),
            "unit": self.unit,
            "usd": self.usd,
            "usdPerHour": self.usd_per_hour,
            "committedUsd": self.committed_usd,
            "from": _text(self.start),
            "until": _text(self.end),
            "running": self.running,
            "noLongerUsed": self.no_longer_used or None,
            "standIn": self.stand_in,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """All costs in a period."""

    lines: tuple[Line, ...]
    start: float
    now: float
    price_date: str
    hourly_price_date: str
    leaks: tuple[Leak, ...] = ()
    """Resources that cost money and are no longer used."""
    billed: Billed | None = None
    """The amounts that Google has billed; None if they are unknown."""
    unread: tuple[str, ...] = ()
    """Buckets that could not be read, with the reasons."""

    @property
    def days(self) -> dict[str, float]:
        """Return US dollars by day in UTC; a job counts on the day when it ended, or today."""
        found: dict[str, float] = defaultdict(float)
        for line in self.lines:
            for day, usd in line.by_day.items():
                found[day] += usd
        return {day: round(usd, 4) for day, usd in sorted(found.items())}

    @property
    def kinds(self) -> dict[str, float]:
        """Return US dollars by kind."""
        return {kind: round(sum(line.usd or 0.0 for line in self.lines if line.kind == kind), 4) for kind in KINDS}

    @property
    def leaks_usd_per_day(self) -> float:
        """Return the daily cost of the leaks, as far as their prices are known."""
        return round(sum(leak.usd_per_day or 0.0 for leak in self.leaks), 4)

    @property
    def usd(self) -> float:
        """Return the cost so far."""
        return round(sum(line.usd or 0.0 for line in self.lines), 4)

    @property
    def usd_per_hour(self) -> float:
        """Return the current hourly cost."""
        return round(sum(line.usd_per_hour or 0.0 for line in self.lines), 4)

    @property
    def committed_usd(self) -> float:
        """Return the future cost of resources that end."""
        return round(sum(line.committed_usd or 0.0 for line in self.lines), 4)

    @property
    def unknown(self) -> int:
        """Return the number of lines without an amount."""
        return sum(line.usd is None for line in self.lines)

    @property
    def month_end_usd(self) -> float:
        """Return the cost until the end of the month if serving continues unchanged."""
        return round(self.usd + self.usd_per_hour * (_month_end(self.now) - self.now) / HOUR, 4)

    def to_json(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        return {
            "from": _text(self.start),
            "until": _text(self.now),
            "usd": self.usd,
            "usdPerHour": self.usd_per_hour,
            "committedUsd": self.committed_usd,
            "monthEndUsd": self.month_end_usd,
            "unknown": self.unknown,
            "kinds": self.kinds,
            "days": self.days,
            "billed": None if self.billed is None else self.billed.to_json(),
            "leaksUsdPerDay": self.leaks_usd_per_day,
            "leaks": [leak.to_json() for leak in self.leaks],
            "unread": list(self.unread),
            "lines": [line.to_json() for line in self.lines],
            "priceDate": self.price_date,
            "hourlyPriceDate": self.hourly_price_date,
        }

    def to_csv(self) -> str:
        """Return the lines with a header."""
        import csv  # imported here, so that read-only commands start fast

        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: _cell(value) for key, value in line.to_json().items()} for line in self.lines)
        return text.getvalue()


def _cell(value: object) -> object:
    """Return a value for a spreadsheet: a name that starts like a formula becomes a text."""
    if not isinstance(value, str):
        return value
    return f"'{visible(value)}" if value.startswith(("=", "+", "-", "@", "\t", "\r")) else visible(value)


def month_start(now: float) -> float:
    """Return the start of the month of a time, in UTC."""
    moment = datetime.datetime.fromtimestamp(now, datetime.UTC)
    return moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0).timestamp()


def _month_end(now: float) -> float:
    start = datetime.datetime.fromtimestamp(month_start(now), datetime.UTC)
    return (start + datetime.timedelta(days=32)).replace(day=1).timestamp()


def _text(moment: float | None) -> str | None:
    return None if moment is None else times.to_seconds(moment)
