"""The cost of a pipeline on Dataflow, before anything starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runner.catalog import load_catalog

DATAFLOW = "DataflowRunner"
MARGIN = 2.0
"""Factor for the high end of an estimate: workers that start late, ranges that are read again."""
_SHUFFLED = {"check": 0.03, "convert": 0.0001, "split": 0.03}
"""Shuffled bytes per byte read: digests of lines of one kilobyte."""
_AS = {"stats": "check"}
"""Commands that read as fast as others."""
_GB = 1e9
_TARGET_HOURS = 0.5
"""The estimate assumes enough workers to finish in this time; Dataflow chooses the number itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineEstimate:
    """The price of one run."""

    what: str
    octets: int
    """Number of bytes that are read."""
    workers: int
    vcpu_hours: float
    shuffled_gb: float
    usd: float
    price_date: str

    @property
    def high(self) -> float:
        """Return the amount that a limit is compared with."""
        return MARGIN * self.usd

    def to_json(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        return {
            "what": self.what,
            "bytes": self.octets,
            "workers": self.workers,
            "vcpuHours": round(self.vcpu_hours, 4),
            "shuffledGb": round(self.shuffled_gb, 3),
            "usd": {"expected": round(self.usd, 4), "high": round(self.high, 4)},
            "priceDate": self.price_date,
        }


def estimate(what: str, octets: int, *, most_workers: int | None = None) -> PipelineEstimate:
    """Return the cost of a command on Dataflow for a number of bytes.

    Args:
        what: `check`, `stats`, `convert` or `split`.
        octets: total size of the files in bytes.
        most_workers: maximum in the pipeline's options; workers have one core.
    """
    prices = load_catalog().dataflow
    kind = _AS.get(what, what)
    reading = octets / prices.bytes_per_core_second[kind] / 3600
    workers = max(1, min(most_workers or 1000, round(reading / _TARGET_HOURS)))
    hours = reading + workers * prices.worker_start_seconds / 3600
    shuffled = octets * _SHUFFLED[kind] / _GB
    hourly = (
        prices.usd_per_vcpu_hour
        + prices.memory_gb_per_vcpu * prices.usd_per_memory_gb_hour
        + prices.disk_gb_per_worker * prices.usd_per_disk_gb_hour
    )
    return PipelineEstimate(
        what=what,
        octets=octets,
        workers=workers,
        vcpu_hours=hours,
        shuffled_gb=shuffled,
        usd=hours * hourly + shuffled * prices.usd_per_shuffled_gb,
        price_date=prices.price_date,
    )
