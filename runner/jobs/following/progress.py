"""How far a job is, when it will be done, what it has cost: from what a watch sees."""

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
"""Half the width of an 80 % interval, in standard deviations of a normal distribution."""
_RECENT = 50
"""Steps on which the forecast rests: a rate that has changed must show."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remaining:
    """Seconds left until the last step; 80 % of such forecasts hold if later steps vary as the last ones did."""

    low: float
    expected: float
    high: float

    def to_json(self) -> dict[str, float]:
        """Return the JSON form, in seconds."""
        return {"low": round(self.low, 1), "expected": round(self.expected, 1), "high": round(self.high, 1)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Billed:
    """What a job has used so far."""

    tokens: int
    """Billed tokens of the part that has been trained."""
    total_tokens: int
    """Billed tokens of the whole job: those of the dataset times the epochs."""
    usd: float | None
    """None where no price is published."""
    total_usd: float | None
    price_date: str
    stand_in: bool = False
    """Whether a stand-in's tokenizer counted, so that the real model's count differs, and nothing is charged."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form; dollars at list price."""
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
    """Return the share of the training that is done, 0 to 1; None where nothing says.

    Args:
        job: its document.
        steps: steps done and
        total: in all, where events tell them.
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
    """Return the share of the training that is done, by the last step among a job's events, else by its document."""
    steps = [event.data for event in story if event.kind == "step"]
    if not steps:
        return fraction_of(job)
    return fraction_of(job, steps=int(steps[-1].get("step", 0)), total=steps[-1].get("total_steps"))


def billed(job: TuningJob, fraction: float | None = None) -> Billed | None:
    """Return what a job has used so far by list price; None until the service has counted its tokens.

    Args:
        job: its document.
        fraction: the share that is trained; found from the document when it is None.
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
    """Return the list price of a million tokens for a job's model and mode, in US dollars; None where unknown."""
    try:
        limits = {str(mode): limits for mode, limits in find_model(job.base_model).modes.items()}.get(job.mode)
    except UnknownModelError:
        return None
    return limits.usd_per_million_tokens if limits else None


@dataclass(slots=True)
class JobProgress:
    """What a watch has seen of one job."""

    job: TuningJob | None = None
    losses: list[tuple[int, float]] = field(default_factory=list)
    """(step, training loss)."""
    validation: list[tuple[int, float]] = field(default_factory=list)
    learning_rate: float | None = None
    step: int | None = None
    total: int | None = None
    epoch: float | None = None
    waited: float | None = None
    """Seconds between the job's creation and its start, or until now while it has not started."""
    last_progress: float = field(default_factory=time.monotonic)
    """Moment of the last progress that was seen, on the monotonic clock."""
    _moments: list[tuple[int, float]] = field(default_factory=list)
    """(step, seconds) on one clock: the service's, else this machine's."""

    def observe(self, update: JobUpdate) -> None:
        """Take in an update."""
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
        """Take from the job's document what a service without events says."""
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
        """The share of the training that is done."""
        return None if self.job is None else fraction_of(self.job, steps=self.step, total=self.total)

    @property
    def billed(self) -> Billed | None:
        """What it has used so far."""
        return None if self.job is None else billed(self.job, self.fraction)

    @property
    def remaining(self) -> Remaining | None:
        """When the last step will be done; None until three steps have been seen, and after the end."""
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
        import statistics  # here, so that looking starts fast

        mean, spread = statistics.fmean(pauses), statistics.stdev(pauses)
        # The sum of `left` further steps varies by itself, and the mean is itself an estimate.
        error = _Z80 * spread * math.sqrt(left + left * left / len(pauses))
        expected = left * mean
        return Remaining(low=max(0.0, expected - error), expected=expected, high=expected + error)

    def to_json(self) -> dict[str, Any]:
        """Return what is known, for a line of a stream."""
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
