"""The price and duration of a batch prediction job, and when it is better than an endpoint.

A model that answers many questions at once reads all its weights in each step, so the memory bandwidth of the
accelerator determines the rate: steps per second are the bandwidth divided by the size of the weights, and each step
generates a token for every concurrent question. The catalog contains the assumed number of concurrent questions and the
assumed share of the bandwidth.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from runner.catalog import find_model, load_catalog
from runner.catalog.models import MachineChoice, UnknownModelError
from runner.formatting import duration
from runner.prices import amount
from runner.serving.plan import hourly_price
from runner.wording import counted

_PARAMETERS = re.compile(r"(\d+(?:\.\d+)?)b\b")
EXPECTED_TOKENS = 256
"""Expected length of an answer, unless its limit is lower."""
ANSWER_TOKENS = 1024
"""Length of an answer without a limit, for the upper end of the price."""
FEWEST_QUESTIONS = 100
"""Minimum number of questions for a recommendation."""
WORTH_TELLING_SECONDS = 1800.0
"""Minimum duration of a batch through an endpoint for a recommendation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The questions."""

    questions: int
    expected_tokens: int
    """Expected tokens of all answers together."""
    most_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchEstimate:
    """The duration and price of one job. None if the machine or the model is not in the catalog."""

    work: Work
    replicas: int
    machine: MachineChoice | None
    seconds: float | None
    high_seconds: float | None
    usd: float | None
    high: float | None
    price_date: str

    def to_json(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        return {
            "questions": self.work.questions,
            "answerTokens": {"expected": self.work.expected_tokens, "high": self.work.most_tokens},
            "replicas": self.replicas,
            "machineType": self.machine.machine_type if self.machine else None,
            "seconds": {"expected": _rounded(self.seconds), "high": _rounded(self.high_seconds)},
            "usd": {"expected": _rounded(self.usd), "high": _rounded(self.high)},
            "priceDate": self.price_date,
        }


def estimate(
    work: Work, base_model: str, machine: MachineChoice | None, replicas: int, *, rate: float | None = None
) -> BatchEstimate:
    """Return the duration and price of a job.

    Args:
        work: the questions.
        base_model: ID in the catalog.
        machine: the machine of each replica.
        replicas: number of concurrent replicas.
        rate: measured tokens per second of one replica.
    """
    catalog = load_catalog()
    expected, low = (rate, rate) if rate is not None else rates(base_model, machine)
    price = hourly_price(machine)
    seconds = high = None
    if expected is not None and low is not None:
        seconds = catalog.batch.start_seconds + work.expected_tokens / (expected * replicas)
        high = 2 * catalog.batch.start_seconds + work.most_tokens / (low * replicas)
    return BatchEstimate(
        work=work,
        replicas=replicas,
        machine=machine,
        seconds=seconds,
        high_seconds=high,
        usd=None if price is None or seconds is None else price * replicas * seconds / 3600,
        high=None if price is None or high is None else price * replicas * high / 3600,
        price_date=catalog.hourly_price_date,
    )


def rates(base_model: str, machine: MachineChoice | None) -> tuple[float | None, float | None]:
    """Return the expected and the minimum tokens per second of one replica; None if they are unknown."""
    settings = load_catalog().batch
    bandwidth = settings.gigabytes_per_second.get(machine.accelerator_type) if machine else None
    try:
        found = _PARAMETERS.search(find_model(base_model).id.lower()) if base_model else None
    except UnknownModelError:
        found = None
    if machine is None or bandwidth is None or found is None:
        return None, None
    weights = 2 * float(found[1])  # gigabytes, in bfloat16
    steps = settings.share_of_bandwidth * bandwidth * max(1, machine.accelerator_count) / weights
    return settings.questions_at_once * steps, settings.fewest_at_once * steps


def advice(
    work: Work, base_model: str, machine: MachineChoice | None, *, concurrency: int, replicas: int, hourly: float | None
) -> str:
    """Return why a batch prediction job is better for a batch; "" if it is not.

    Args:
        work: the questions.
        base_model: ID in the catalog.
        machine: the machine of the endpoint.
        concurrency: number of concurrent requests.
        replicas: replicas of the endpoint.
        hourly: hourly price of the endpoint.
    """
    settings = load_catalog().batch
    expected, _ = rates(base_model, machine)
    if expected is None:
        return ""
    # The endpoint's replicas share the concurrent requests.
    here = expected * replicas * min(1.0, concurrency / (settings.questions_at_once * replicas))
    seconds = work.expected_tokens / here
    job = estimate(work, base_model, machine, 4 * replicas)
    if seconds < WORTH_TELLING_SECONDS or job.seconds is None or job.usd is None:
        return ""
    ways = []
    if 2 * job.seconds < seconds:
        ways.append(f"faster (about {duration(job.seconds)} instead of {duration(seconds)})")
    if hourly is not None and job.usd < hourly * seconds / 3600:
        ways.append(
            f"cheaper (about {amount(job.usd)} instead of {amount(hourly * seconds / 3600)} of the endpoint's time)"
        )
    if not ways:
        return ""
    return f"a batch prediction job would be {' and '.join(ways)} with {counted(4 * replicas, 'replica')}"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
