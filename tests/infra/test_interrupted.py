"""An application that is cut off anywhere is followed by one that ends green, with what a whole one makes.

A few points of a sweep; `python -m benchmarks.stack_sweep` looks at each.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.emulator.server import EmulatorServer
from tests.infra.cutting import Cutting
from tests.infra.stack_sweep import StackSweep


@pytest.mark.parametrize(("name", "points"), [("local", 2), ("prod", 1)])
def test_wherever_an_application_is_cut_or_killed_the_next_one_ends_green(
    name: str, points: int, emulator: EmulatorServer, tmp_path: Path
) -> None:
    with Cutting(emulator.url) as cutting:
        sweep = StackSweep(emulator.url, cutting, tmp_path, name).measure()
        assert len(sweep.requests) > 30
        for at, when in sweep.points(every=2 * len(sweep.requests) // points + 1):
            sweep.cut(at, when)
        if name == "local":
            sweep.kill(0.5)
        assert sweep.stuck == []
