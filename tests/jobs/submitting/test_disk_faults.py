"""Submissions on a disk that is full or broken: an error that names the file, no half line, no lost job.

System calls on files of the state directory fail one by one (`ptrace.Failure`), as the kernel lets them fail.
"""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.jobs.submitting import ptrace
from tests.jobs.submitting.kill_flows import DEAD, Sweep, sweeping
from tests.jobs.submitting.killable import Run

pytestmark = pytest.mark.skipif(not ptrace.can_fail(), reason="system calls cannot be made to fail here")


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sweep]:
    with sweeping(tmp_path_factory.mktemp("disk-faults")) as made:
        made._in_project()
        yield made


def error_of(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run.output.splitlines()[-1])["error"]
    return found


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_submission_survives_each_failure_of_its_ledger(sweep: Sweep, number: int) -> None:
    state = Path(sweep.variables["RUNNER_STATE_DIR"])

    def submit(at: int | None) -> tuple[list[str], Run]:
        shutil.rmtree(state, ignore_errors=True)
        command = sweep._submission(next(sweep._numbers))
        failure = ptrace.Failure(within=state.name, at=at, number=number, lasting=True)
        return command, sweep.killable.run(*command, variables=sweep.variables, failure=failure)

    def made(command: list[str]) -> int:
        rates = [item["supervisedTuningSpec"].get("hyperParameters", {}).get("learningRate") for item in sweep._jobs()]
        return [str(rate) for rate in rates].count(sweep._rate(command))

    _, whole = submit(None)
    assert whole.code == 0
    kinds = [point.split()[0] for point in whole.points]
    held = ["mkdir", "mkdir", "openat", "openat", "write", "openat"]
    """Directories, lock, who holds it, and ledger."""
    assert kinds == [*held, "write", "fsync", "fsync", "write", "fsync", "write", "fsync"]
    for at in range(1, len(kinds)):
        command, run = submit(at)
        ledger = state / "submissions.jsonl"
        if at < len(kinds) - 2:
            assert (run.code, made(command)) == (74, 0)
            error = error_of(run)
            assert error["code"] == "disk"
            assert Path(error["path"]).is_relative_to(state)
            assert "nothing was submitted" in error["hint"]
        else:
            assert (run.code, made(command)) == (0, 1)
            assert f"cannot write {ledger}" in run.output
            assert "the job is there" in run.output
        if ledger.exists():
            assert all(json.loads(line) for line in ledger.read_text().splitlines())
        again = sweep.killable.run(*command, variables=sweep.variables, values=DEAD)
        assert (again.code, made(command)) == (0, 1), again.output
