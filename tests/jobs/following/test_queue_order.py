"""Fifty manifests under a quota of two end in order, in compressed time."""

from __future__ import annotations

from pathlib import Path

from tests.faulty import FaultyEmulator
from tests.jobs.following.queue_order import problems_of, put_through
from tests.provisioning import Provisioned


def test_fifty_manifests_under_a_quota_of_two(faulty: FaultyEmulator, project: Provisioned, tmp_path: Path) -> None:
    # No job is trained: each holds its slot for six seconds of the emulator's time, a tenth of ours, and ends.
    faulty.arm("job:capacity-wait=6", "job:fail=platform")
    outcome = put_through(project, tmp_path, manifests=50, quota=2, patience=240)
    assert outcome.problems == []
    assert len(outcome.jobs) == 50
    # The check would notice: the same jobs in another order, or under a smaller quota.
    priorities = {job.labels["runner-manifest"]: 0 for job in outcome.jobs}
    backwards = list(reversed(outcome.jobs))
    assert any("overtook an earlier one" in problem for problem in problems_of(backwards, priorities, 2))
    assert any("were active" in problem for problem in problems_of(outcome.jobs, priorities, 1))
