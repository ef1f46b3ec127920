"""The price of a tuning job, before it is started.

    USD = billed tokens x epochs x price of a million tokens / 1,000,000

The tokens are those that `runner data check` reports for the training file. If the model's tokenizer is on this
machine, they are counted. Otherwise, they are the number of characters times the ratio that Google publishes for the
model and mode, and the estimate has a range: from the lowest to the highest ratio published for any model, because
Google does not publish how much the ratio differs between datasets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runner.catalog import find_model, load_catalog
from runner.datasets.reports.report import Report
from runner.datasets.tokens.counters import TOKENS_PER_IMAGE, ratio_of
from runner.jobs.specification import TuningJobSpec
from runner.wording import counted


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetStatistics:
    """The properties of the training file that the estimate needs. The validation file is not billed."""

    tokens: int
    """Tokens of the training examples, with chat template and images, for the model and mode of the job."""
    counted: bool = False
    """Whether the tokens were counted with the model's tokenizer; otherwise they are estimated."""
    images: int = 0
    """Number of images in these examples."""


def statistics_of(report: Report) -> DatasetStatistics:
    """Return the statistics from the report of a check with the job's model and mode."""
    file = report.training
    return DatasetStatistics(tokens=file.tokens.total, counted=report.tokens_exact, images=file.images)


@dataclass(frozen=True, slots=True, kw_only=True)
class CostEstimate:
    """A price in US dollars, or its absence."""

    low: float | None
    """None, like the other two prices, if no price is published."""
    expected: float | None
    high: float | None
    tokens: int
    """Expected tokens of one epoch."""
    epochs: int
    usd_per_million_tokens: float | None
    price_date: str
    """Day on which the price table was read."""
    reasons: tuple[str, ...]
    """The sources of the numbers, and what the numbers do not include."""

    @property
    def known(self) -> bool:
        """Return whether the price is known."""
        return self.expected is not None

    def to_json(self) -> dict[str, Any]:
        """Return the stable JSON form, with dollars rounded to a hundredth of a cent."""

        def dollars(value: float | None) -> float | None:
            return None if value is None else round(value, 4)

        return {
            "usd": {"low": dollars(self.low), "expected": dollars(self.expected), "high": dollars(self.high)},
            "known": self.known,
            "tokensPerEpoch": self.tokens,
            "epochs": self.epochs,
            "billedTokens": self.tokens * self.epochs,
            "usdPerMillionTokens": self.usd_per_million_tokens,
            "priceDate": self.price_date,
            "reasons": list(self.reasons),
        }


def estimate(spec: TuningJobSpec, statistics: DatasetStatistics) -> CostEstimate:
    """Return the price of a job on this data.

    Raises:
        UnknownModelError: the base model is not in the catalog.
    """
    resolved = spec.resolved()
    model = find_model(resolved.base_model)
    limits = model.modes.get(resolved.mode) if resolved.mode else None
    epochs = resolved.epochs or 1
    catalog = load_catalog()
    reasons: list[str] = []
    ratio = ratio_of(model, resolved.mode)
    if statistics.counted:
        reasons.append("tokens were counted with the model's tokenizer")
        low = high = statistics.tokens
    else:
        published = limits.tokens_per_character if limits else None
        low, high = _range(statistics, ratio, published is not None, reasons)
    if statistics.images:
        reasons.append(
            f"each of {counted(statistics.images, 'image')} is taken for {TOKENS_PER_IMAGE} tokens: "
            "their number is not published"
        )
    price = limits.usd_per_million_tokens if limits else None
    if price is None:
        reasons.append(f"no price is published for tuning {model.name} in mode {resolved.mode}")
    else:
        reasons.append(f"list price of {catalog.price_date}; Cloud Storage and serving are billed in addition")

    def dollars(tokens: int) -> float | None:
        return None if price is None else tokens * epochs * price / 1e6

    return CostEstimate(
        low=dollars(low),
        expected=dollars(statistics.tokens),
        high=dollars(high),
        tokens=statistics.tokens,
        epochs=epochs,
        usd_per_million_tokens=price,
        price_date=catalog.price_date,
        reasons=tuple(reasons),
    )


def _range(statistics: DatasetStatistics, ratio: float, published: bool, reasons: list[str]) -> tuple[int, int]:
    """Return the lowest and the highest number of tokens of one epoch; `statistics` has the expected number."""
    if published:
        reasons.append(f"{ratio} tokens a character is the ratio published for this model and mode")
    else:
        reasons.append(f"no ratio is published for this model: {ratio} tokens a character is a rule of thumb")
    lowest, highest = _published_ratios()
    reasons.append(f"the range is that of the ratios published for all models, {lowest} to {highest}")
    images = TOKENS_PER_IMAGE * statistics.images
    texts = statistics.tokens - images
    return round(texts * min(lowest / ratio, 1)) + images, round(texts * max(highest / ratio, 1)) + images


def _published_ratios() -> tuple[float, float]:
    every = [
        limits.tokens_per_character
        for model in load_catalog().models
        for limits in model.modes.values()
        if limits.tokens_per_character is not None
    ]
    return min(every), max(every)
