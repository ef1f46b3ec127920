"""`runner emulator faults`, and what start and stop say of faults."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.invocation import CommandLine
from tests.faulty import FaultyEmulator

pytestmark = pytest.mark.usefixtures("quick")


def test_faults_on_the_command_line_of_an_emulator_that_does_not_run(run: CommandLine) -> None:
    assert run("emulator", "faults", "ls").code == 69
    outcome = run("emulator", "faults", "add", "tuningJobs.get:explode", "job")
    assert outcome.code == 2
    assert "'explode' is not a fault of methods" in outcome.err
    assert "'job' is not METHOD:ACTION" in outcome.err


def test_faults_on_the_command_line(run: CommandLine, faulty: FaultyEmulator, state_directory: Path) -> None:
    started = run("emulator", "start", "--port", "0", "--stand-in", "tiny", "--fault", "job:stall", "--format", "json")
    assert started.code == 0, started.err
    try:
        assert run("emulator", "faults", "add", "projects.get:status=503,times=1", "-q").out == "2\n"
        listed = run("emulator", "faults", "ls", "--format", "json").document
        assert [item["fault"] for item in listed] == ["job:stall", "projects.get:status=503,times=1"]
        assert run("emulator", "faults", "ls", "--unused").code == 1
        assert run("emulator", "faults", "clear", "2").code == 0
        wrong = run("emulator", "faults", "add", "nothing.like.it:drop")
        assert wrong.code == 2
        assert "no method is named 'nothing.like.it'" in wrong.err
        gone = run("emulator", "faults", "clear", "2", "--format", "json")
        assert (gone.code, gone.error["hint"]) == (2, "`runner emulator faults ls` lists them")
    finally:
        stopped = run("emulator", "stop", "--format", "json")
    assert stopped.document == {"stopped": True, "unusedFaults": ["job:stall"]}
    assert "faults that never fired: job:stall" in stopped.err
    log = (state_directory / "emulator" / "emulator.log").read_text()
    assert "unused fault 1: job:stall" in log
    again = run("emulator", "start", "--port", "0", "--stand-in", "tiny")
    try:
        assert (
            "faults from earlier are still active: job:stall; `runner emulator faults clear` removes them" in again.err
        )
    finally:
        run("emulator", "stop")
