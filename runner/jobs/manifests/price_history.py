"""How much estimates differ from the billed price. Stored in the records, shown in plans, and used for price ranges."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from runner.jobs.manifests.records import Price, Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """Billed tokens divided by expected tokens, for one model and mode."""

    model: str
    mode: str
    ratios: tuple[float, ...]

    @property
    def worst(self) -> float:
        """Return the largest value: the highest billed price relative to the estimate."""
        return max(self.ratios)

    def to_json(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        rounded = [round(ratio, 4) for ratio in self.ratios]
        return {
            "model": self.model,
            "mode": self.mode,
            "jobs": len(rounded),
            "lowest": min(rounded),
            "highest": max(rounded),
            "mean": round(sum(self.ratios) / len(self.ratios), 4),
        }


def accuracies(records: Iterable[Record]) -> dict[tuple[str, str], Accuracy]:
    """Return the history of billed jobs by (model, mode); the count of a stand-in is not a bill."""
    ratios: dict[tuple[str, str], list[float]] = {}
    for record in records:
        for past in (record.run.past(), *record.history):
            if past.billed_tokens and past.expected_tokens and not past.counted_by_stand_in:
                ratios.setdefault((past.model, past.mode), []).append(past.billed_tokens / past.expected_tokens)
    return {key: Accuracy(model=key[0], mode=key[1], ratios=tuple(values)) for key, values in sorted(ratios.items())}


def widened(price: Price, accuracy: Accuracy | None) -> Price:
    """Return a price whose upper end covers the worst previous estimate; the expected price stays the published one."""
    if accuracy is None or price.expected is None or price.high is None:
        return price
    return price.model_copy(update={"high": max(price.high, price.expected * accuracy.worst)})
