"""What a tuning job will cost, before it is started.

    USD = billed tokens x epochs x price of a million tokens / 1,000,000

Tokens are counted where the model's tokenizer is at hand. Otherwise they are characters times the ratio that Google
publishes for model and mode, and the estimate has a range: from the lowest to the highest ratio published for any
model, since how far one dataset is from the ratio is not published.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runner.catalog import find_model, load_catalog
from runner.catalog.models import ModeLimits
from runner.jobs.specification import TuningJobSpec

DEFAULT_TOKENS_PER_CHARACTER = 0.25
"""Google's rule of thumb of four characters a token, where no ratio is published."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetStatistics:
    """What the estimate needs to know of the training file. The validation file is not billed."""

    examples: int
    """Examples that are trained on."""
    characters: int
    """Characters of their texts, without the chat template."""
    tokens: int | None = None
    """Tokens counted with the model's tokenizer, template included; None when they were not counted."""
    images: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CostEstimate:
    """A price in US dollars, or its absence."""

    low: float | None
    """None, like the other two, when no price is published."""
    expected: float | None
    high: float | None
    tokens: int
    """Expected tokens of one epoch."""
    epochs: int
    usd_per_million_tokens: float | None
    price_date: str
    """Day on which the price table was read."""
    reasons: tuple[str, ...]
    """What the numbers rest on, and what they leave out."""

    @property
    def known(self) -> bool:
        """Tell whether there is a price."""
        return self.expected is not None

    def to_json(self) -> dict[str, Any]:
        """Return the stable JSON form; dollars rounded to a hundredth of a cent."""

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
        UnknownModelError: the base model is not in the catalogue.
    """
    resolved = spec.resolved()
    model = find_model(resolved.base_model)
    limits = model.modes.get(resolved.mode) if resolved.mode else None
    epochs = resolved.epochs or 1
    catalog = load_catalog()
    reasons: list[str] = []
    low, expected, high = _tokens(statistics, limits, reasons)
    if statistics.images:
        reasons.append(f"the tokens of {statistics.images} images are not counted: their number is not published")
    price = limits.usd_per_million_tokens if limits else None
    if price is None:
        reasons.append(f"no price is published for tuning {model.name} in mode {resolved.mode}")
    else:
        reasons.append(f"list price of {catalog.price_date}; Cloud Storage and serving are billed besides")

    def dollars(tokens: int) -> float | None:
        return None if price is None else tokens * epochs * price / 1e6

    return CostEstimate(
        low=dollars(low),
        expected=dollars(expected),
        high=dollars(high),
        tokens=expected,
        epochs=epochs,
        usd_per_million_tokens=price,
        price_date=catalog.price_date,
        reasons=tuple(reasons),
    )


def _tokens(statistics: DatasetStatistics, limits: ModeLimits | None, reasons: list[str]) -> tuple[int, int, int]:
    """Return lowest, expected and highest tokens of one epoch."""
    if statistics.tokens is not None:
        reasons.append("tokens were counted with the model's tokenizer")
        return statistics.tokens, statistics.tokens, statistics.tokens
    ratio = limits.tokens_per_character if limits else None
    if ratio is None:
        ratio = DEFAULT_TOKENS_PER_CHARACTER
        reasons.append(f"no ratio is published for this model: {ratio} tokens a character is a rule of thumb")
    else:
        reasons.append(f"{ratio} tokens a character is the ratio published for this model and mode")
    lowest, highest = _published_ratios()
    reasons.append(f"the range is that of the ratios published for all models, {lowest} to {highest}")
    low, high = min(lowest, ratio), max(highest, ratio)
    count = statistics.characters
    return round(count * low), round(count * ratio), round(count * high)


def _published_ratios() -> tuple[float, float]:
    every = [
        limits.tokens_per_character
        for model in load_catalog().models
        for limits in model.modes.values()
        if limits.tokens_per_character is not None
    ]
    return min(every), max(every)
