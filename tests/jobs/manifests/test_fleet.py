"""Many jobs on several projects, with outages, deaths and lost answers: the queue's own code on a compressed clock."""

from __future__ import annotations

import pytest

from benchmarks.fleet_week import Simulation


@pytest.mark.parametrize("seed", [2, 5, 9])
def test_nothing_runs_twice_and_nothing_is_lost(seed: int) -> None:
    result = Simulation(jobs=60, projects=5, days=5, budget_share=1.3, seed=seed).run()
    assert not result.problems, result
    assert result.succeeded + result.failed_for_good == 60
    assert result.created >= 60


def test_many_deaths_and_lost_answers_change_nothing() -> None:
    simulation = Simulation(jobs=40, projects=4, days=6, budget_share=1.5, seed=3, kill_rate=0.05, lose_rate=0.3)
    result = simulation.run()
    assert not result.problems, result
    assert result.kills >= 5
    assert result.lost_answers >= 5
    assert result.succeeded + result.failed_for_good == 40


@pytest.mark.parametrize("seed", [1, 4])
def test_the_budget_is_kept_and_what_it_does_not_pay_for_waits(seed: int) -> None:
    result = Simulation(jobs=50, projects=4, days=3, budget_share=0.5, seed=seed).run()
    assert not result.problems, result
    assert 0.8 * result.budget < result.most_committed <= result.budget
    assert result.waiting > 10
