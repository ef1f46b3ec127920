"""What jobs and deployments have cost, cost now and will cost, at list price: from the service's own documents.

    tuning      billed tokens that were trained x price of a million tokens
    serving     hours since the deployment x replicas x price of the machine

What was taken down already has left no document and is not in it, nor are storage, network and other services.
Amounts are rounded to a hundredth of a cent, and sums are sums of what is shown.
"""

from __future__ import annotations

import csv
import datetime
import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from runner.catalog import load_catalog
from runner.gcp import deployed, endpoints, fleet
from runner.gcp.endpoints import Endpoint
from runner.gcp.session import Session
from runner.gcp.tuning_jobs import TuningJob
from runner.jobs.following.progress import billed
from runner.serving.leases import Lease, lease_of, seconds_of_time
from runner.serving.plan import hourly_price

HOUR = 3600.0
COLUMNS = ("kind", "name", "id", "quantity", "unit", "usd", "usdPerHour", "committedUsd", "from", "until", "running")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What one job or one deployed model costs."""

    kind: Literal["tuning", "serving"]
    name: str
    id: str
    """Of the job, or of the endpoint."""
    quantity: float
    unit: str
    """`tokens` or `hours`, of all replicas."""
    usd: float | None
    """So far; None where no price is published, or the service has not counted yet."""
    usd_per_hour: float | None = 0.0
    """While it serves; 0 for tuning."""
    committed_usd: float | None = 0.0
    """What comes still if nothing is done: the rest of the training, or the time until the lease ends.

    None where nothing ends it.
    """
    start: float | None = None
    """Seconds since 1970."""
    end: float | None = None
    """None while it runs."""

    @property
    def running(self) -> bool:
        """Tell whether it costs more by itself."""
        return self.end is None

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
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """All of it, over a stretch of time."""

    lines: tuple[Line, ...]
    days: dict[str, float]
    """Day in UTC to US dollars; a job counts on the day on which it ended, or today."""
    start: float
    now: float
    price_date: str
    hourly_price_date: str

    @property
    def usd(self) -> float:
        """Return what is spent."""
        return round(sum(line.usd or 0.0 for line in self.lines), 4)

    @property
    def usd_per_hour(self) -> float:
        """Return what is being spent."""
        return round(sum(line.usd_per_hour or 0.0 for line in self.lines), 4)

    @property
    def committed_usd(self) -> float:
        """Return what comes still where something ends it."""
        return round(sum(line.committed_usd or 0.0 for line in self.lines), 4)

    @property
    def unknown(self) -> int:
        """Return how many lines have no amount."""
        return sum(line.usd is None for line in self.lines)

    @property
    def month_end_usd(self) -> float:
        """Return what is spent by the end of the month if serving goes on as it is."""
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
            "days": self.days,
            "lines": [line.to_json() for line in self.lines],
            "priceDate": self.price_date,
            "hourlyPriceDate": self.hourly_price_date,
        }

    def to_csv(self) -> str:
        """Return the lines, with a heading."""
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(line.to_json() for line in self.lines)
        return text.getvalue()


def current_bill(session: Session, *, start: float | None = None) -> Bill:
    """Return the bill until now; see `bill_of`. Changes nothing. Raises GoogleApiError, UnreachableError."""
    labels = {model_id(item.name): item.labels for item in deployed.list_models(session)}
    found = endpoints.list_endpoints(session)
    return bill_of(fleet.all_jobs(session), found, now=session.now(), start=start, model_labels=labels)


def model_id(name: str) -> str:
    """Return the id in the full name of a Model resource or one of its versions."""
    return name.split("@", 1)[0].rsplit("/", 1)[-1]


def bill_of(
    jobs: Sequence[TuningJob],
    serving: Sequence[Endpoint],
    *,
    now: float,
    start: float | None = None,
    model_labels: Mapping[str, Mapping[str, str]] | None = None,
) -> Bill:
    """Return the bill.

    Args:
        jobs: of the location.
        serving: endpoints of the location, with their deployed models.
        now: seconds since 1970.
        start: from when; None is the beginning of the month, in UTC.
        model_labels: labels of Model resources by id, where leases stand.
    """
    since = _month_start(now) if start is None else start
    catalog = load_catalog()
    lines = [line for job in jobs if (line := _of_job(job, since)) is not None]
    days: dict[str, float] = defaultdict(float)
    for line in lines:
        days[_day(min(line.end or now, now))] += line.usd or 0.0
    for endpoint in serving:
        for item in endpoint.deployed_models:
            labels = (model_labels or {}).get(model_id(item.model), {})
            line = _of_deployed(endpoint, item, lease_of(endpoint, item, labels), since, now)
            lines.append(line)
            _spread(line, now, days)
    order = sorted(lines, key=lambda line: (not line.running, -(line.usd or 0.0)))
    return Bill(
        lines=tuple(order),
        days={day: round(usd, 4) for day, usd in sorted(days.items())},
        start=since,
        now=now,
        price_date=catalog.price_date,
        hourly_price_date=catalog.hourly_price_date,
    )


def _of_job(job: TuningJob, since: float) -> Line | None:
    end = job.end_time.timestamp() if job.end_time else None
    if (end is not None and end < since) or (job.ended and end is None):
        return None
    used = billed(job)
    rest = None if used is None or used.total_usd is None or used.usd is None else used.total_usd - used.usd
    return Line(
        kind="tuning",
        name=job.display_name or job.id,
        id=job.id,
        quantity=used.tokens if used else 0,
        unit="tokens",
        usd=None if used is None or used.usd is None else round(used.usd, 4),
        committed_usd=0.0 if job.ended else (None if rest is None else round(rest, 4)),
        start=job.create_time.timestamp() if job.create_time else None,
        end=end,
    )


def _of_deployed(endpoint: Endpoint, item: Any, lease: Lease, since: float, now: float) -> Line:
    price, replicas = hourly_price(item.machine), max(1, item.replicas)
    made = seconds_of_time(item.create_time)
    begin = max(made if made is not None else now, since)
    hours = max(0.0, now - begin) / HOUR * replicas
    left = None if lease.until is None else max(0.0, lease.until - now) / HOUR * replicas
    return Line(
        kind="serving",
        name=item.display_name or endpoint.display_name or item.id,
        id=endpoint.id,
        quantity=hours,
        unit="hours",
        usd=None if price is None else round(hours * price, 4),
        usd_per_hour=None if price is None else round(price * replicas, 4),
        committed_usd=None if price is None or left is None else round(left * price, 4),
        start=begin,
    )


def _spread(line: Line, now: float, days: dict[str, float]) -> None:
    """Give each day its share of what serving has cost."""
    begin = line.start if line.start is not None else now
    whole = now - begin
    while begin < now:
        midnight = (datetime.datetime.fromtimestamp(begin, datetime.UTC) + datetime.timedelta(days=1)).replace(
            hour=0, minute=0, second=0, microsecond=0
        )
        until = min(now, midnight.timestamp())
        days[_day(begin)] += (line.usd or 0.0) * (until - begin) / whole
        begin = until


def _day(moment: float) -> str:
    return datetime.datetime.fromtimestamp(moment, datetime.UTC).strftime("%Y-%m-%d")


def _month_start(now: float) -> float:
    moment = datetime.datetime.fromtimestamp(now, datetime.UTC)
    return moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0).timestamp()


def _month_end(now: float) -> float:
    start = datetime.datetime.fromtimestamp(_month_start(now), datetime.UTC)
    return (start + datetime.timedelta(days=32)).replace(day=1).timestamp()


def _text(moment: float | None) -> str | None:
    if moment is None:
        return None
    return datetime.datetime.fromtimestamp(moment, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
