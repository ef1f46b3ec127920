"""Lines are smoothed without a pull to zero, and thinned without losing a spike."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.console.drawing import line, smoothed, thinned

VALUES = st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), max_size=60)


@given(VALUES, st.floats(0, 1))
def test_smoothing_keeps_gaps_and_stays_within_what_was_measured(values: list[float | None], weight: float) -> None:
    found = smoothed(values, weight)
    assert [value is None for value in found] == [value is None for value in values]
    finite = [value for value in values if value is not None]
    for value in found:
        if value is not None:
            assert min(finite) - 1e-3 <= value <= max(finite) + 1e-3


def test_smoothing_is_debiased_and_leaves_constants() -> None:
    assert smoothed([4.0, 2.0, 2.0], 0.9)[0] == pytest.approx(4.0)
    assert smoothed([0.3] * 9, 0.99) == [0.3] * 9
    assert smoothed([1.0, math.nan, 3.0, 4.0], 0.5)[2] == pytest.approx((0.25 * 1 + 0.5 * 3) / 0.75)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=500), st.integers(4, 100))
def test_thinning_keeps_the_extremes(values: list[float], most: int) -> None:
    points = [(float(index), value) for index, value in enumerate(values)]
    kept = thinned(points, most)
    assert {min(values), max(values)} <= {y for _, y in kept}
    assert kept == sorted(kept)
    assert set(kept) <= set(points)


def test_a_line_needs_two_points() -> None:
    assert line([(1.0, 2.0), (2.0, math.inf)], 10, 10) is None
    found = line([(1.0, 5.0), (3.0, 5.0)], 10, 10)
    assert found is not None
    assert found.points == "0.0,10.0 10.0,10.0"
