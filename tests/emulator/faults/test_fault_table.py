"""The table of faults: what a submission, an upload and a read do under each, and the exit code they end with."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from runner.emulator import faults
from runner.jobs.submitting import claims
from tests.cli.invocation import CommandLine
from tests.faulty import FaultyEmulator
from tests.provisioning import Provisioned
from tests.rest import jobs_path

MODEL = "meta/llama3_1@llama-3.1-8b-instruct"

SUBMISSIONS = [
    # fault, exit code, JSON error code, jobs there are then
    ("tuningJobs.create:delay=0.5", 0, "", 1),
    ("tuningJobs.create:drop-after,times=1", 0, "", 1),
    ("tuningJobs.create:status-after=503,times=1", 0, "", 1),
    ("tuningJobs.create:status-after=500,times=1", 0, "", 1),
    ("tuningJobs.create:drop,times=1", 8, "ambiguous_submission", 0),
    ("tuningJobs.create:status=503,times=1", 8, "ambiguous_submission", 0),
    ("tuningJobs.create:status=504,times=1", 8, "ambiguous_submission", 0),
    ("tuningJobs.create:status=429,times=1", 75, "quota_exceeded", 0),
    ("tuningJobs.create:status=400,times=1", 4, "google_api", 0),
    ("tuningJobs.create:status=401,times=1", 4, "permission_denied", 0),
    ("tuningJobs.create:status=403,times=1", 4, "permission_denied", 0),
    ("tuningJobs.list:status=503,times=2", 0, "", 1),
    ("tuningJobs.list:drop,times=2", 0, "", 1),
    ("tuningJobs.list:status=429,times=2,retry-after=0", 0, "", 1),
    ("tuningJobs.list:status=503", 4, "google_api", 0),
    ("storage.objects.insert:status=503,times=1,retry-after=0", 0, "", 1),
    ("storage.objects.insert:drop-after,times=1", 0, "", 1),
    ("storage.objects.insert:drop,times=1", 0, "", 1),
    ("storage.objects.insert:status-after=503,times=1", 0, "", 1),
    ("storage.objects.insert:status=403", 4, "permission_denied", 0),
    ("storage.objects.get:status=503,times=2,retry-after=0", 0, "", 1),
    ("storage.objects.get:drop,times=1", 0, "", 1),
]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("fault", "code", "error", "jobs"), SUBMISSIONS, ids=[row[0] for row in SUBMISSIONS])
def test_submitting(
    fault: str,
    code: int,
    error: str,
    jobs: int,
    run: CommandLine,
    faulty: FaultyEmulator,
    in_project: Provisioned,
    dataset: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(claims, "LOOKUP_SECONDS", 1.0)
    faulty.arm("job:quota-wait=100000", fault)
    outcome = run("jobs", "submit", "--model", MODEL, "--train", str(dataset), "--yes", "--format", "json")
    assert outcome.code == code, outcome.err
    if error:
        assert outcome.error["code"] == error
    else:
        assert outcome.document["created"] is True
    assert faulty.hits()[1] >= 1, "the fault has struck"
    faulty.http.delete("/_emulator/faults")
    faulty.arm("job:quota-wait=100000")
    assert len(faulty.http.get(jobs_path(in_project)).json().get("tuningJobs", [])) == jobs
    if jobs:
        again = run("jobs", "submit", "--model", MODEL, "--train", str(dataset), "--yes", "--format", "json")
        assert again.document["created"] is False
        assert len(faulty.http.get(jobs_path(in_project)).json()["tuningJobs"]) == 1


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("tuningJobs.list:status=500,times=3", 0),
        ("tuningJobs.list:status=401", 4),
        ("tuningJobs.list:status=429,retry-after=0", 75),
        ("tuningJobs.list:drop", 69),
        ("tuningJobs.list:delay=0.2", 0),
    ],
)
def test_reading(fault: str, code: int, run: CommandLine, faulty: FaultyEmulator, in_project: Provisioned) -> None:
    faulty.arm(fault)
    outcome = run("jobs", "ls", "--format", "json")
    assert outcome.code == code, outcome.err
    assert faulty.hits() != [0]


def test_every_fault_of_the_documentation_exists_and_is_armed_by_a_test_of_commands() -> None:
    root = Path(__file__).parents[3]
    rows = re.findall(
        r"^\| `(?:(job|deployment):)?([a-z-]+)(?:=[A-Z0-9]+|\[=SECONDS\])?` \|",
        (root / "docs/faults.md").read_text().split("## Options")[0],
        re.M,
    )
    documented = {(kind, action) for kind, action in rows}
    known = {("", action) for action in faults.REQUEST_ACTIONS}
    known |= {("job", action) for action in faults.JOB_ACTIONS}
    known |= {("deployment", action) for action in faults.DEPLOYMENT_ACTIONS}
    assert documented == known
    # Tests that run commands, or the program that `infra` is, and look at what they answer and end with.
    texts = "".join(
        path.read_text()
        for folder in ("emulator/faults", "jobs", "infra", "serving", "cli")
        for path in (root / "tests" / folder).rglob("test_*.py")
        if path.name != "test_faults.py"
    )
    for kind, action in sorted(known):
        assert re.search(rf"[\":]{action}\b", texts), (kind, action)
