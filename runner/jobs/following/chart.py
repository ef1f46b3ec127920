"""Curves as text, with 2 x 4 dots per character, or as plain ASCII if the terminal does not show braille characters."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

Points = Sequence[tuple[float, float]]

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bit of each dot of a braille character: [row][column] (Unicode, block 2800)."""
_EMPTY = 0x2800
_SMOOTHED_FROM = 40
"""Minimum number of points of a curve that is smoothed."""
MARK = "o"
"""Character for a point of the second curve; braille dots of two curves could not be distinguished."""


def chart(
    line: Points, marks: Points = (), *, width: int = 60, height: int = 8, braille: bool = True, end: float = 0.0
) -> list[str]:
    """Return the lines of a chart, with its scale on the left; [] if there is nothing to draw.

    Args:
        line: (x, y) points of the curve. If several points share a column, their mean is drawn. A single point that is
            far from both of its neighbors does not stretch the scale; it is drawn at the edge.
        marks: (x, y) points that are marked on top of the curve.
        width: number of columns, including the scale; at least 24.
        height: number of rows, without the axis.
        braille: whether the terminal shows braille characters.
        end: right end of the axis, if it is beyond the last point; the curve grows to the right.
    """
    line = [point for point in line if all(map(math.isfinite, point))]
    points = [point for point in (*_without_spikes(line), *marks) if all(map(math.isfinite, point))]
    if not points:
        return []
    low, high = min(y for _, y in points), max(y for _, y in points)
    if high - low < 1e-12:
        low, high = low - 0.5, high + 0.5
    first, last = min(x for x, _ in (*line, *points)), max(max(x for x, _ in (*line, *points)), end)
    labels = [f"{high:.4g}", f"{low:.4g}"]
    margin = max(map(len, labels)) + 1
    columns = max(8, width - margin - 1)
    across, down = (2, 4) if braille else (1, 1)
    grid = [[0] * (columns * across) for _ in range(height * down)]

    def column(x: float) -> int:
        return round((x - first) / ((last - first) or 1.0) * (columns * across - 1))

    def row(y: float) -> int:
        return round((high - min(high, max(low, y))) / (high - low) * (height * down - 1))

    _draw(grid, line, column, row)
    rows = [_row(grid[number * down : (number + 1) * down], columns, braille=braille) for number in range(height)]
    for x, y in marks:
        rows[row(y) // down][column(x) // across] = MARK
    texts = ["".join(cells).rstrip() for cells in rows]
    scale = [labels[0], *[""] * (height - 2), labels[1]] if height > 1 else [labels[0]]
    edge = "│" if braille else "|"
    drawn = [f"{label:>{margin}}{edge}{text}" for label, text in zip(scale, texts, strict=True)]
    axis = f"{first:g}".ljust(max(1, columns - len(f"{last:g}"))) + f"{last:g}"
    return [*drawn, " " * (margin + 1) + axis]


def smoothed(points: Points) -> list[tuple[float, float]]:
    """Return a smoothed curve: an exponential mean over about a twentieth of it. Short curves stay unchanged."""
    finite = [point for point in points if all(map(math.isfinite, point))]
    if len(finite) < _SMOOTHED_FROM:
        return list(finite)
    kept = 1 - 1 / max(1.0, len(finite) / 20)
    total = weight = 0.0
    curve = []
    for (x, _), y in zip(finite, _medians([y for _, y in finite]), strict=True):
        total, weight = kept * total + (1 - kept) * y, kept * weight + (1 - kept)
        curve.append((x, total / weight))
    return curve


def _medians(values: Sequence[float]) -> list[float]:
    """Return the median of each value and its two neighbours."""
    if len(values) < 3:
        return list(values)
    inner = [sorted(values[at - 1 : at + 2])[1] for at in range(1, len(values) - 1)]
    return [values[0], *inner, values[-1]]


def _without_spikes(line: Points) -> list[tuple[float, float]]:
    """Return a curve in which a single outlier has the height of a neighbor."""
    return [(x, y) for (x, _), y in zip(line, _medians([y for _, y in line]), strict=True)]


def _draw(grid: list[list[int]], line: Points, column: Callable[[float], int], row: Callable[[float], int]) -> None:
    by_column: dict[int, list[float]] = {}
    for x, y in line:
        if math.isfinite(y):
            by_column.setdefault(column(x), []).append(y)
    previous: tuple[int, int] | None = None
    for x in sorted(by_column):
        y = row(sum(by_column[x]) / len(by_column[x]))
        grid[y][x] = 1
        if previous is not None:
            _join(grid, previous, (x, y))
        previous = (x, y)


def _join(grid: list[list[int]], start: tuple[int, int], end: tuple[int, int]) -> None:
    """Draw a straight line between two dots."""
    steps = max(abs(end[0] - start[0]), abs(end[1] - start[1]))
    for step in range(1, steps):
        x = round(start[0] + (end[0] - start[0]) * step / steps)
        y = round(start[1] + (end[1] - start[1]) * step / steps)
        grid[y][x] = 1


def _row(dots: list[list[int]], columns: int, *, braille: bool) -> list[str]:
    if not braille:
        return ["*" if dot else " " for dot in dots[0]]
    cells = []
    for number in range(columns):
        bits = sum(_DOTS[down][across] for down in range(4) for across in range(2) if dots[down][number * 2 + across])
        cells.append(chr(_EMPTY + bits) if bits else " ")
    return cells
