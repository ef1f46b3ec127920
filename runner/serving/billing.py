"""The past, current and future cost of jobs and deployments at list price, from the service's own documents.

    tuning      billed tokens of the completed training x price of a million tokens
    serving     hours since the deployment x replicas x price of the machine
    storage     contents of the buckets, since they were written x price of their class

Resources that were already undeployed or deleted have no document and are not included. Network and other services are
not included either. Amounts are rounded to a hundredth of a cent; the sums by line, kind and day are equal.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from runner import times
from runner.catalog import load_catalog
from runner.gcp import deployed, endpoints, fleet
from runner.gcp.endpoints import DeployedModel, Endpoint, bare_name
from runner.gcp.session import Session
from runner.gcp.storage import ObjectInfo
from runner.gcp.tuning_jobs import TuningJob
from runner.jobs.following.progress import billed as billed_of
from runner.serving.bill import HOUR, KINDS, Bill, Line, month_start
from runner.serving.billed import Billed, read
from runner.serving.leak import Leak
from runner.serving.leases import Lease, lease_of
from runner.serving.plan import hourly_total
from runner.serving.stale import find_all
from runner.serving.stored import DAY, Stored, buckets_of, stored


def current_bill(session: Session, *, start: float | None = None, billed: Path | None = None) -> Bill:
    """Return the bill until now; see `bill_of`. Changes nothing.

    Args:
        session: the project and location.
        start: see `bill_of`.
        billed: a file for `billed.read`.

    Raises:
        ConfigurationError: `billed` cannot be read.
        GoogleApiError, UnreachableError: the service cannot be read.
    """
    labels = {bare_name(item.name): item.labels for item in deployed.list_models(session)}
    buckets, unread = buckets_of(session)
    jobs, serving, leaks = fleet.all_jobs(session), endpoints.list_endpoints(session), find_all(session)
    now = session.now()  # last, so that it refuses a time before any of this was created
    google = None
    if billed is not None:
        google = read(billed, since=_day(month_start(now) if start is None else start), until=_day(now))
    return bill_of(
        jobs,
        serving,
        now=now,
        start=start,
        model_labels=labels,
        buckets=buckets,
        unread=unread,
        leaks=leaks,
        billed=google,
    )


def bill_of(
    jobs: Sequence[TuningJob],
    serving: Sequence[Endpoint],
    *,
    now: float,
    start: float | None = None,
    model_labels: Mapping[str, Mapping[str, str]] | None = None,
    buckets: Iterable[tuple[str, Iterable[ObjectInfo]]] = (),
    unread: Iterable[str] = (),
    leaks: Sequence[Leak] = (),
    billed: Billed | None = None,
) -> Bill:
    """Return the bill.

    Args:
        jobs: the jobs of the location.
        serving: the endpoints of the location, with their deployed models.
        now: seconds since 1970.
        start: start of the period; None is the beginning of the month, in UTC.
        model_labels: labels of Model resources by `bare_name`, which contain leases.
        buckets: the buckets of the environment, with their contents.
        unread: buckets that could not be read, with the reasons.
        leaks: unused resources.
        billed: the amounts that Google has billed in the same period.
    """
    since = month_start(now) if start is None else start
    catalog = load_catalog()
    unused = {(leak.resource.rsplit("/", 1)[-1], leak.deployed_model): leak.reason for leak in leaks}
    lines = [line for job in jobs if (line := _of_job(job, since, now)) is not None]
    for endpoint in serving:
        for item in endpoint.deployed_models:
            lease = lease_of(endpoint, item, (model_labels or {}).get(bare_name(item.model), {}))
            lines.append(_of_deployed(endpoint, item, lease, since, now, unused.get((endpoint.id, item.id), "")))
    for name, items in buckets:
        lines += _of_bucket(stored(name, items, since=since, now=now))
    order = sorted(lines, key=lambda line: (KINDS.index(line.kind) == 2, not line.running, -(line.usd or 0.0)))
    return Bill(
        lines=tuple(order),
        start=since,
        now=now,
        price_date=catalog.price_date,
        hourly_price_date=catalog.hourly_price_date,
        leaks=tuple(leaks),
        billed=billed,
        unread=tuple(unread),
    )


def _of_job(job: TuningJob, since: float, now: float) -> Line | None:
    end = job.end_time.timestamp() if job.end_time else None
    if (end is not None and end < since) or (job.ended and end is None):
        return None
    used = billed_of(job)
    usd = None if used is None or used.usd is None else round(used.usd, 4)
    rest = None if used is None or used.total_usd is None or used.usd is None else used.total_usd - used.usd
    return Line(
        kind="tuning",
        name=job.display_name or job.id,
        id=job.id,
        quantity=used.tokens if used else 0,
        unit="tokens",
        usd=usd,
        stand_in=used is not None and used.stand_in,
        by_day=_apportioned(usd, {_day(now if end is None else min(end, now)): 1.0}),
        committed_usd=0.0 if job.ended else (None if rest is None else round(rest, 4)),
        start=job.create_time.timestamp() if job.create_time else None,
        end=end,
    )


def _of_deployed(endpoint: Endpoint, item: DeployedModel, lease: Lease, since: float, now: float, unused: str) -> Line:
    price, replicas = hourly_total([item]), max(1, item.replicas)
    made = times.seconds_of(item.create_time)
    begin = max(made if made is not None else now, since)
    hours = max(0.0, now - begin) / HOUR
    left = None if lease.until is None else max(0.0, lease.until - now) / HOUR
    usd = None if price is None else round(hours * price, 4)
    return Line(
        kind="serving",
        name=item.display_name or endpoint.display_name or item.id,
        id=endpoint.id,
        quantity=hours * replicas,
        unit="hours",
        usd=usd,
        by_day=_apportioned(usd, _shares(begin, now)),
        usd_per_hour=None if price is None else round(price, 4),
        committed_usd=None if price is None or left is None else round(left * price, 4),
        start=begin,
        no_longer_used=unused,
    )


def _of_bucket(found: Stored) -> list[Line]:
    if not found.objects:
        return []
    days = {_day(day): usd for day, usd in found.usd_by_day.items()}
    usd = None if found.usd_per_hour is None else round(sum(days.values()), 4)
    line = Line(
        kind="storage",
        name=found.bucket,
        id=found.bucket,
        quantity=found.size / 2**30,
        unit="GiB",
        usd=usd,
        usd_per_hour=None if found.usd_per_hour is None else round(found.usd_per_hour, 6),
        committed_usd=None,
        start=found.first,
        by_day=_apportioned(usd, days),
    )
    return [line]


def _shares(begin: float, now: float) -> dict[str, float]:
    """Return the seconds of each day between two times."""
    found: dict[str, float] = {}
    while begin < now:
        until = min(now, begin - begin % DAY + DAY)
        found[_day(begin)] = until - begin
        begin = until
    return found or {_day(now): 1.0}


def _apportioned(usd: float | None, shares: Mapping[str, float]) -> dict[str, float]:
    """Divide an amount into whole hundredths of a cent, so that the sum of the shares equals the amount."""
    whole, weight = round((usd or 0.0) * 10_000), sum(shares.values())
    if not whole or not weight:
        return {}
    exact = {day: whole * share / weight for day, share in shares.items()}
    found = {day: int(amount) for day, amount in exact.items()}
    for day in sorted(exact, key=lambda day: found[day] - exact[day])[: whole - sum(found.values())]:
        found[day] += 1
    return {day: units / 10_000 for day, units in found.items() if units}


def _day(moment: float) -> str:
    return datetime.datetime.fromtimestamp(moment, datetime.UTC).strftime("%Y-%m-%d")
