"""The progress of a job, the time left, and the price so far, calculated from the updates of a watch."""

from __future__ import annotations

import datetime
import itertools
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from runner import times
from runner.catalog import UnknownModelError, find_model, load_catalog
from runner.gcp.events import JobEvent
from runner.gcp.tuning_jobs import TuningJob
from runner.jobs.following.watching import JobUpdate

_Z80 = 1.2816
"""Half the width of an 80% interval, in standard deviations of a normal distribution."""
_RECENT = 50
"""Number of recent steps that the forecast uses, so that it follows changes of the rate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remaining:
    """Seconds until the last step. The interval contains 80% of the results, if later steps vary like the last ones."""

    low: float
    expected: float
    high: float

    def to_json(self) -> dict[str, float]:
        """Return the JSON form, in seconds."""
        return {"low": round(self.low, 1), "expected": round(self.expected, 1), "high": round(self.high, 1)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Billed:
    """The tokens and the price of a job so far."""

    tokens: int
    """Billed tokens of the completed part of the training."""
    total_tokens: int
    """Billed tokens of the whole job: tokens of the dataset times epochs."""
    usd: float | None
    """None if no price is published."""
    total_usd: float | None
    price_date: str
    stand_in: bool = False
    """Whether a stand-in's tokenizer counted, so that the real model's count differs and nothing is charged."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, with dollars at list price."""
        rounded = {name: None if value is None else round(value, 6) for name, value in self._dollars()}
        return {
            "tokens": self.tokens,
            "totalTokens": self.total_tokens,
            **rounded,
            "priceDate": self.price_date,
            "standIn": self.stand_in,
        }

    def _dollars(self) -> list[tuple[str, float | None]]:
        return [("usd", self.usd), ("totalUsd", self.total_usd)]


def fraction_of(job: TuningJob, *, steps: int | None = None, total: int | None = None) -> float | None:
    """Return the share of the training that is completed, 0 to 1; None if it is unknown.

    Args:
        job: the document of the job.
        steps: number of completed steps, if events report it.
        total: total number of steps, if events report it.
    """
    if job.succeeded:
        return 1.0
    done = steps if steps is not None else job.completed_steps
    whole = total or _whole(job.data_stats.get("tuningStepCount"))
    if done is not None and whole:
        return min(1.0, done / whole)
    if job.completed_epochs is not None and job.epochs:
        return min(1.0, job.completed_epochs / job.epochs)
    return None


def fraction_by(job: TuningJob, story: Iterable[JobEvent]) -> float | None:
    """Return the completed share of the training, from the last step among a job's events, or from its document."""
    steps = [event.data for event in story if event.kind == "step"]
    if not steps:
        return fraction_of(job)
    return fraction_of(job, steps=int(steps[-1].get("step", 0)), total=steps[-1].get("total_steps"))


def billed(job: TuningJob, fraction: float | None = None) -> Billed | None:
    """Return the usage of a job so far at list price; None until the service has counted its tokens.

    Args:
        job: the document of the job.
        fraction: the completed share of the training; None calculates it from the document.
    """
    fraction = fraction_of(job) if fraction is None else fraction
    count = _whole(job.data_stats.get("totalBillableTokenCount"))
    if count is None:
        return None
    total = count * (job.epochs or 1)
    tokens = round(total * (fraction or 0.0))
    price = price_of(job)
    return Billed(
        tokens=tokens,
        total_tokens=total,
        usd=None if price is None else tokens * price / 1e6,
        total_usd=None if price is None else total * price / 1e6,
        price_date=load_catalog().price_date,
        stand_in=job.counted_by_stand_in,
    )


def price_of(job: TuningJob) -> float | None:
    """Return the list price of a million tokens for a job's model and mode, in US dollars; None if unknown."""
    try:
        limits = {str(mode): limits for mode, limits in find_model(job.base_model).modes.items()}.get(job.mode)
    except UnknownModelError:
        return None
    return limits.usd_per_million_tokens if limits else None


@dataclass(slots=True)
class JobProgress:
    """What a watch knows about one job."""

    job: TuningJob | None = None
    losses: list[tuple[int, float]] = field(default_factory=list)
    """(step, training loss) points."""
    validation: list[tuple[int, float]] = field(default_factory=list)
    learning_rate: float | None = None
    step: int | None = None
    total: int | None = None
    epoch: float | None = None
    waited: float | None = None
    """Seconds between the creation and the start of the job, or until now if it has not started."""
    last_progress: float = field(default_factory=time.monotonic)
    """Time of the last progress, on the monotonic clock."""
    _moments: list[tuple[int, float]] = field(default_factory=list)
    """(step, seconds) on one clock: the service's if known, otherwise this machine's."""

    def observe(self, update: JobUpdate) -> None:
        """Add an update."""
        before = (self.step, self.epoch, len(self.validation))
        self.job = update.job
        for event in update.events:
            self._event(event)
        self._document(update.job)
        if update.state_changed or before != (self.step, self.epoch, len(self.validation)):
            self.last_progress = time.monotonic()
        self.waited = self._queue_age(update.job)

    def _event(self, event: JobEvent) -> None:
        data = event.data
        if event.kind == "step":
            self.step, self.total = int(data.get("step", 0)), data.get("total_steps", self.total)
            self.epoch = data.get("epoch", self.epoch)
            self.learning_rate = data.get("learning_rate", self.learning_rate)
            if _finite(data.get("loss")):
                self.losses.append((self.step, float(data["loss"])))
            moment = times.seconds_of(event.time)
            if moment is not None:
                self._moments.append((self.step, moment))
        elif event.kind == "evaluation" and _finite(data.get("loss")):
            self.validation.append((int(data.get("step", self.step or 0)), float(data["loss"])))

    def _document(self, job: TuningJob) -> None:
        """Add the values of the job's document, for a service without events."""
        if job.completed_steps is None or self.losses:
            return
        if job.completed_steps != self.step:
            self._moments.append((job.completed_steps, time.monotonic()))
        self.step = job.completed_steps
        self.total = _whole(job.data_stats.get("tuningStepCount"))
        self.epoch = job.completed_epochs

    def _queue_age(self, job: TuningJob) -> float | None:
        if job.create_time is None:
            return None
        until = job.start_time or job.end_time or datetime.datetime.now(datetime.UTC)
        return max(0.0, (until - job.create_time).total_seconds())

    @property
    def fraction(self) -> float | None:
        """The completed share of the training."""
        return None if self.job is None else fraction_of(self.job, steps=self.step, total=self.total)

    @property
    def billed(self) -> Billed | None:
        """The usage so far."""
        return None if self.job is None else billed(self.job, self.fraction)

    @property
    def remaining(self) -> Remaining | None:
        """Seconds until the last step; None until three steps are known, and after the end."""
        if self.job is None or self.job.ended or self.step is None or not self.total:
            return None
        recent = self._moments[-_RECENT - 1 :]
        pauses = [
            (later - earlier) / (step - before)
            for (before, earlier), (step, later) in itertools.pairwise(recent)
            if step > before and later >= earlier
        ]
        left = self.total - self.step
        if len(pauses) < 2 or left < 0:
            return None
        import statistics  # imported here, so that read-only commands start fast

        mean, spread = statistics.fmean(pauses), statistics.stdev(pauses)
        # The sum of `left` further steps varies, and the mean is itself an estimate.
        error = _Z80 * spread * math.sqrt(left + left * left / len(pauses))
        expected = left * mean
        return Remaining(low=max(0.0, expected - error), expected=expected, high=expected + error)

    def to_json(self) -> dict[str, Any]:
        """Return the known values, for a line of a stream."""
        remaining, used = self.remaining, self.billed
        body = {
            "step": self.step,
            "totalSteps": self.total,
            "epoch": self.epoch,
            "fraction": None if self.fraction is None else round(self.fraction, 4),
            "loss": self.losses[-1][1] if self.losses else None,
            "validationLoss": self.validation[-1][1] if self.validation else None,
            "queueSeconds": None if self.waited is None else round(self.waited, 1),
            "remainingSeconds": remaining.to_json() if remaining else None,
            "billed": used.to_json() if used else None,
        }
        return {key: value for key, value in body.items() if value is not None}


def _whole(value: Any) -> int | None:
    try:
        return None if value is None else int(value)
    except (TypeError, ValueError):
        return None


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
