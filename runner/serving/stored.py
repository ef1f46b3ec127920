"""The cost of storage: prices of Cloud Storage, and the cost of an environment's buckets by day."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from runner import times
from runner.errors import GoogleApiError
from runner.gcp.session import Session
from runner.gcp.storage import ObjectInfo, each_object

USD_PER_GIB_MONTH = {"STANDARD": 0.020, "NEARLINE": 0.010, "COLDLINE": 0.004, "ARCHIVE": 0.0012}
"""List price in us-central1 (cloud.google.com/storage/pricing, seen 2026-11); other locations may cost more."""
HOURS_PER_MONTH = 730.0
DAY = 86400.0


def usd_per_hour(item: ObjectInfo) -> float | None:
    """Return the hourly list price of an object; None if the price of its class is unknown."""
    price = USD_PER_GIB_MONTH.get(item.storage_class)
    return None if price is None else price * item.size / 2**30 / HOURS_PER_MONTH


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """The current contents of a bucket, and their cost so far, without objects that were deleted since."""

    bucket: str
    objects: int = 0
    size: int = 0
    """Bytes."""
    usd_per_hour: float | None = 0.0
    """None if the price of an object's class is unknown."""
    usd_by_day: dict[float, float] = field(default_factory=dict)
    """Maps midnights in UTC, in seconds since 1970, to US dollars."""
    first: float | None = None
    """When the oldest object was written, or the start of the period if later."""


def buckets_of(session: Session) -> tuple[list[tuple[str, Iterable[ObjectInfo]]], list[str]]:
    """Return the buckets of the environment with their objects, and those that cannot be read, with the reasons."""
    environment = session.environment
    names = (
        environment.datasets_bucket,
        environment.images_bucket,
        environment.outputs_bucket,
        environment.contract_bucket,
    )
    found, unread = [], []
    for name in dict.fromkeys(filter(None, names)):
        try:
            found.append((name, list(each_object(session, f"gs://{name}/"))))
        except GoogleApiError as error:
            unread.append(f"{name}: {error.message}")
    return [(name, items) for name, items in found], unread


def stored(bucket: str, items: Iterable[ObjectInfo], *, since: float, now: float) -> Stored:
    """Return the cost of a bucket's objects between two times, in seconds since 1970."""
    size, count, rate, first = 0, 0, 0.0, now
    known = True
    rates: dict[float, float] = defaultdict(float)
    """Hourly cost on every later day, by the day on which objects were written."""
    begun: dict[float, float] = defaultdict(float)
    """Cost on the day itself."""
    for item in items:
        size, count = size + item.size, count + 1
        price = usd_per_hour(item)
        if price is None:
            known = False
            continue
        rate += price
        start = min(now, max(since, times.seconds_of(item.created) or since))
        first = min(first, start)
        day = start - start % DAY
        rates[day] += price
        begun[day] += price * (min(now, day + DAY) - start) / 3600
    return Stored(
        bucket=bucket,
        objects=count,
        size=size,
        usd_per_hour=rate if known else None,
        usd_by_day=_by_day(rates, begun, now),
        first=first if count else None,
    )


def _by_day(rates: dict[float, float], begun: dict[float, float], now: float) -> dict[float, float]:
    days: dict[float, float] = {}
    running = 0.0
    day = min(rates, default=now)
    while day < now:
        days[day] = running * (min(now, day + DAY) - day) / 3600 + begun.get(day, 0.0)
        running += rates.get(day, 0.0)
        day += DAY
    return days


def cost(items: Sequence[ObjectInfo]) -> float | None:
    """Return the hourly cost of all objects; None if a price is unknown."""
    prices = [usd_per_hour(item) for item in items]
    return None if None in prices else sum(price or 0.0 for price in prices)
