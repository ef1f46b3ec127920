"""Transfers and conversion: see `uploads` and `conversions`."""

from __future__ import annotations

from benchmarks.goals import conversions, uploads
from benchmarks.goals.figures import Run


def measure(run: Run) -> None:
    """Measure both."""
    uploads.measure(run)
    conversions.measure(run)
