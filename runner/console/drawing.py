"""Curves: points of lines, smoothed and reduced without losing extreme values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Point = tuple[float, float]
MOST_POINTS = 2000
"""With more points, only the minimum and the maximum of each section are drawn."""
HIGHEST_SMOOTHING = 0.999


def smoothed(values: Sequence[float | None], weight: float) -> list[float | None]:
    """Return the exponential moving average, corrected for its start at zero; constants and gaps are unchanged.

    Args:
        values: None, NaN and infinity are gaps.
        weight: weight of the previous values, from 0 to below 1.
    """
    weight = min(max(weight, 0.0), HIGHEST_SMOOTHING)
    finite = [value for value in values if value is not None and math.isfinite(value)]
    if weight == 0 or len(finite) <= 2 or min(finite) == max(finite):
        return list(values)
    average, count, out = 0.0, 0, []
    for value in values:
        if value is None or not math.isfinite(value):
            out.append(value)
            continue
        count += 1
        average = weight * average + (1 - weight) * value
        out.append(average / (1 - weight**count))
    return out


def thinned(points: Sequence[Point], most: int = MOST_POINTS) -> list[Point]:
    """Return at most `most` of the points: the minimum and the maximum of each section, so that no spike is lost."""
    if len(points) <= most:
        return list(points)
    stretch = math.ceil(len(points) / (most // 2))
    kept: list[Point] = []
    for start in range(0, len(points), stretch):
        part = points[start : start + stretch]
        low, high = min(part, key=lambda point: point[1]), max(part, key=lambda point: point[1])
        kept += sorted({low, high})
    return kept


@dataclass(frozen=True, slots=True)
class Line:
    """A line in an image of `width` by `height`, as an SVG's `points`, and the numbers at its edges."""

    points: str
    low: float
    high: float
    first: float
    last: float


def line(points: Sequence[Point], width: float, height: float, within: Sequence[Point] = ()) -> Line | None:
    """Return points scaled to an image; None if fewer than two are finite.

    Args:
        points: the points of the line.
        width: width of the image.
        height: height of the image.
        within: points of other lines in the same image.
    """
    finite = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    if len(finite) < 2:
        return None
    every = [*finite, *((x, y) for x, y in within if math.isfinite(x) and math.isfinite(y))]
    low, high = min(y for _, y in every), max(y for _, y in every)
    left, right = min(x for x, _ in every), max(x for x, _ in every)
    across, up = (right - left) or 1.0, (high - low) or 1.0
    text = " ".join(
        f"{(x - left) / across * width:.1f},{height - (y - low) / up * height:.1f}"
        for x, y in thinned(finite, int(2 * width))
    )
    return Line(text, low, high, left, right)
