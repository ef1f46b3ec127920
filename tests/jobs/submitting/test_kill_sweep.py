"""Command lines killed at their system calls leave one job, whatever point it was.

A sample; `python -m benchmarks.kill_sweep` kills at 300 points.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.jobs.submitting import ptrace
from tests.jobs.submitting.kill_flows import FLOWS, Sweep, sweeping

POINTS = 10
pytestmark = pytest.mark.skipif(not ptrace.available(), reason="processes cannot be traced here")


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sweep]:
    with sweeping(tmp_path_factory.mktemp("kill-sweep")) as made:
        yield made


@pytest.mark.parametrize("flow", FLOWS)
def test_kill_9_at_system_calls(flow: str, sweep: Sweep) -> None:
    found = sweep.flow(flow, POINTS)
    assert (found.duplicates, found.lost, found.failed) == ([], [], [])
    assert found.kills + found.ended_before == POINTS
    assert found.kills >= POINTS // 2


@pytest.mark.parametrize(
    ("flow", "plant"),
    [
        ("submit", "tests.jobs.submitting.planted:post_then_record"),
        ("apply", "tests.jobs.submitting.planted:trust_the_record"),
    ],
)
def test_the_sweep_catches_a_planted_mistake(flow: str, plant: str, sweep: Sweep) -> None:
    # The create's request is sent; its answer is unread, or its result not on disk.
    found = sweep.flow(flow, plant=plant, after="/tuningJobs HTTP/1.1", at=[1, 2])
    assert found.kills == 2
    assert len(found.duplicates) == 2


def test_a_traced_process_is_killed_before_the_call_takes_effect(tmp_path: Path) -> None:
    def run(*arguments: str) -> dict[str, Any]:
        command = [sys.executable, "-m", "tests.jobs.submitting.ptrace", str(tmp_path), *arguments]
        done = subprocess.run(command, cwd=ptrace.ROOT, capture_output=True, check=True)
        body: dict[str, Any] = json.loads(done.stdout)
        return body

    calls = ["openat", "write one", "openat", "write two", "openat", "write three"]
    assert run() == {"points": calls, "killed": False, "code": 3}
    for path in tmp_path.iterdir():
        path.unlink()
    assert run("3") == {"points": calls[:4], "killed": True, "code": None}
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"one": "one", "two": ""}
