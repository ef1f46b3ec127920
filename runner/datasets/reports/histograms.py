"""Figures about a dataset for people: lengths as a histogram, prices of every model and mode."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

from runner.catalog import find_model, models
from runner.catalog.models import TuningMode
from runner.datasets.reports.report import FileReport, Lengths, Report
from runner.datasets.tokens.counters import ratio_of, token_lengths

_BARS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """Examples with a length above `above` and at most `up_to` tokens."""

    above: int
    up_to: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """The dataset's figures for one mode of one model."""

    model: str
    mode: TuningMode
    limit: int
    """Maximum number of tokens of one example."""
    kept: int
    """Number of examples that are not too long."""
    tokens: int
    """Number of tokens in one epoch."""
    usd: float | None
    """Price of all epochs; None if no price is published."""

    def to_json(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        return {
            "model": self.model,
            "mode": self.mode,
            "maxSequenceLength": self.limit,
            "kept": self.kept,
            "tokensPerEpoch": self.tokens,
            "usd": None if self.usd is None else round(self.usd, 4),
        }


def histogram(report: Report, file: FileReport, bars: int = _BARS) -> list[Bar]:
    """Return bars of doubling width that cover all lengths, even those beyond the limit; no bar spans the limit."""
    model = find_model(report.model) if report.model else None
    mode = next((mode for mode in model.modes if mode == report.mode), None) if model else None
    counts = token_lengths(file.sizes, None if report.tokens_exact else ratio_of(model, mode), None)
    if not counts:
        return []
    edges = [0, 1]
    while edges[-1] < max(counts):
        edges.append(edges[-1] * 2)
    while len(edges) > 2 and edges[1] < min(counts):
        del edges[1]
    if len(edges) - 1 > bars:
        edges = [0, *edges[-bars:]]
    limit = report.max_sequence_length
    if limit is not None and limit < max(counts) and limit not in edges:
        edges = sorted([*edges, limit])
    return [
        Bar(
            above=low,
            up_to=high,
            count=sum(count for length, count in counts.items() if low < length <= high or length == low == 0),
        )
        for low, high in itertools.pairwise(edges)
    ]


def offers(report: Report, epochs: int = 1) -> list[Offer]:
    """Return the training file's figures for each model and mode.

    If tokens were counted, the same count is used for all models. If they were estimated, each model's mode has
    its own ratio of tokens to characters, and the result is that of a check with that model.
    """
    found = []
    file = report.training
    for model in models():
        if file.with_images and not model.images:
            continue
        for mode, limits in model.modes.items():
            ratio = None if report.tokens_exact else ratio_of(model, mode)
            lengths = Lengths(token_lengths(file.sizes, ratio, limits.max_sequence_length))
            tokens = lengths.total
            price = limits.usd_per_million_tokens
            usd = None if price is None else tokens * epochs * price / 1e6
            found.append(
                Offer(
                    model=model.id,
                    mode=mode,
                    limit=limits.max_sequence_length,
                    kept=lengths.counts.total(),
                    tokens=tokens,
                    usd=usd,
                )
            )
    return found
