"""A job's tuning data statistics, with the fields and the meaning of the API's `SupervisedTuningDataStats`."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from runner.emulator.engine.dataset import MAX_REPORTED, TokenizedDataset

_BUCKETS = 10


def dataset_statistics(dataset: TokenizedDataset, *, steps: int) -> dict[str, Any]:
    """Return the statistics as REST JSON (64-bit integers are strings).

    Args:
        dataset: the training file.
        steps: optimizer steps of the whole job.
    """
    lengths = [len(example.tokens) for example in dataset.examples]
    outputs = [example.learned for example in dataset.examples]
    inputs = [length - output for length, output in zip(lengths, outputs, strict=True)]
    reported = dataset.dropped[:MAX_REPORTED]
    return {
        "tuningDatasetExampleCount": str(len(dataset.examples) + len(dataset.dropped)),
        "totalTuningCharacterCount": str(dataset.characters),
        "totalBillableTokenCount": str(sum(lengths)),
        "tuningStepCount": str(steps),
        "userInputTokenDistribution": distribution(inputs),
        "userOutputTokenDistribution": distribution(outputs),
        "userMessagePerExampleDistribution": distribution([example.turns for example in dataset.examples]),
        "userDatasetExamples": dataset.preview,
        # The API defines this as the number of dropped examples, for any reason.
        "totalTruncatedExampleCount": str(len(dataset.dropped)),
        "truncatedExampleIndices": [str(line) for line, _ in reported],
        "droppedExampleReasons": [reason for _, reason in reported],
    }


def distribution(values: Sequence[int]) -> dict[str, Any]:
    """Return the API's `SupervisedTuningDatasetDistribution` of some counts; empty for none."""
    if not values:
        return {}
    ordered = sorted(values)
    low, high = ordered[0], ordered[-1]
    width = (high - low) / _BUCKETS or 1.0
    counts = [0] * _BUCKETS
    for value in ordered:
        counts[min(int((value - low) / width), _BUCKETS - 1)] += 1
    return {
        "sum": str(sum(ordered)),
        "billableSum": str(sum(ordered)),
        "min": float(low),
        "max": float(high),
        "mean": statistics.fmean(ordered),
        "median": float(statistics.median(ordered)),
        "p5": _percentile(ordered, 0.05),
        "p95": _percentile(ordered, 0.95),
        "buckets": [
            {"count": float(count), "left": low + index * width, "right": low + (index + 1) * width}
            for index, count in enumerate(counts)
            if count
        ],
    }


def _percentile(ordered: Sequence[int], share: float) -> float:
    """Return the percentile, interpolated linearly between the two nearest values."""
    position = share * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)
