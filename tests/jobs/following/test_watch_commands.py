"""`jobs watch` and `wait`: what they print, and with which code they end."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from runner.cli.jobs.follow import terminated_as_interrupted
from tests.cli.invocation import CommandLine
from tests.faulty import FaultyEmulator
from tests.provisioning import Provisioned
from tests.rest import job_of, until

pytestmark = pytest.mark.usefixtures("quick")
ROOT = Path(__file__).parents[3]


def test_watching_a_job_that_fails(run: CommandLine, faulty: FaultyEmulator, in_project: Provisioned) -> None:
    job = job_of(faulty, in_project, "fail=platform")
    outcome = run("jobs", "watch", job)
    assert outcome.code == 5
    assert outcome.out.splitlines()[-1] == f"{job}  failed"
    assert outcome.err.startswith(f"stand-in: job {job} trains ")
    assert outcome.err.endswith(
        f"\nerror: tuning job {job} failed: Internal error encountered.\nhint: `runner jobs why {job}`\n"
    )


def test_watching_several_jobs_as_json(run: CommandLine, faulty: FaultyEmulator, in_project: Provisioned) -> None:
    first, second = (job_of(faulty, in_project, f"fail={cause}", cause) for cause in ("data", "capacity"))
    outcome = run("jobs", "watch", first, second, "--format", "json")
    assert outcome.code == 5
    states = [(line["id"], line["state"]) for line in outcome.documents if line["event"] == "state"]
    assert {(first, "JOB_STATE_FAILED"), (second, "JOB_STATE_FAILED")} <= set(states)
    assert outcome.error["code"] == "job_failed"
    assert outcome.error["message"].startswith("2 of 2 jobs did not succeed")


def test_a_stalled_job_ends_the_wait_with_6(run: CommandLine, faulty: FaultyEmulator, in_project: Provisioned) -> None:
    job = job_of(faulty, in_project, "stall")
    outcome = run("jobs", "wait", job, "--stall-after", "1s", "--format", "json")
    assert outcome.code == 6
    assert outcome.error["code"] == "job_stalled"
    assert f"runner jobs cancel {job}" in outcome.error["hint"]
    watched = run("jobs", "watch", job, "--stall-after", "1s", "--format", "json")
    assert watched.code == 6
    assert watched.documents[-1]["event"] == "stalled"


@pytest.mark.parametrize("command", ["watch", "wait"])
def test_the_time_is_up(command: str, run: CommandLine, faulty: FaultyEmulator, in_project: Provisioned) -> None:
    job = job_of(faulty, in_project, "quota-wait=100000")
    outcome = run("jobs", command, job, "--timeout", "1s")
    assert outcome.code == 6
    assert "it continues" in outcome.err
    assert f"`runner jobs wait {job}`" in outcome.err


def test_a_watch_through_faults_tells_of_them(
    run: CommandLine, faulty: FaultyEmulator, in_project: Provisioned
) -> None:
    job = job_of(faulty, in_project, "quota-wait=1000000")
    faulty.arm("tuningJobs.get:status=503,skip=1,times=6")

    def cancel_once_it_has_struck() -> None:
        while faulty.hits()[-1] < 6:
            time.sleep(0.05)
        faulty.http.post(f"/v1beta1/{in_project.parent}/tuningJobs/{job}:cancel", json={}).raise_for_status()

    canceller = threading.Thread(target=cancel_once_it_has_struck, daemon=True)
    canceller.start()
    outcome = run("jobs", "watch", job, "--format", "json")
    canceller.join()
    assert outcome.code == 5
    problems = [line for line in outcome.documents if line["event"] == "problem"]
    assert problems
    assert "currently unavailable" in problems[0]["message"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_leaving_a_watch_leaves_the_job(
    number: signal.Signals, faulty: FaultyEmulator, in_project: Provisioned, run: CommandLine
) -> None:
    jobs = [job_of(faulty, in_project, "quota-wait=100000", name) for name in ("first", "second")]
    process = subprocess.Popen(
        [sys.executable, "-m", "runner", "jobs", "watch", *jobs],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout is not None
    assert process.stdout.readline()
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == f"the jobs continue; to resume, run `runner jobs watch {jobs[0]} {jobs[1]}`\n"
    for job in jobs:
        state = faulty.http.get(f"/v1beta1/{in_project.parent}/tuningJobs/{job}").json()["state"]
        assert state == "JOB_STATE_PENDING"


class _Heedless:
    """Is interrupted in its destructor, where Python prints an exception and drops it."""

    def __init__(self, number: signal.Signals) -> None:
        self.number = number

    def __del__(self) -> None:
        signal.raise_signal(self.number)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_within_a_destructor_is_not_lost(number: signal.Signals) -> None:
    handlers = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)]

    def interrupted() -> None:
        with terminated_as_interrupted():
            _Heedless(number)
            threading.Event().wait(60)

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert handlers == [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)]
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_the_picture_on_a_terminal(faulty: FaultyEmulator, in_project: Provisioned, run: CommandLine) -> None:
    job = job_of(faulty, in_project, "quota-wait=100000", "named \x1b]2;evil\x07job")
    until(faulty, f"{in_project.parent}/tuningJobs/{job}", "WAITING_FOR_QUOTA")
    parent, child = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "runner", "jobs", "watch", job, "--timeout", "2s"],
        stdout=child,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "90", "LINES": "30"},
    )
    os.close(child)
    shown = b""
    while True:
        try:
            piece = os.read(parent, 65536)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    _, errors = process.communicate(timeout=60)
    os.close(parent)
    assert process.returncode == 6, errors
    text = shown.decode()
    assert "pending (waiting for quota) · waiting" in text
    assert "\x1b]2;" not in text
    assert "named \\x1b]2;evil\\x07job" in text
