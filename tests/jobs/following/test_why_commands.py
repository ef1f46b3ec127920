"""`jobs why`: cause, evidence, lines, and what to type next."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.invocation import CommandLine
from tests.faulty import FaultyEmulator
from tests.provisioning import Provisioned
from tests.rest import created, ended, job_of, until

pytestmark = pytest.mark.usefixtures("quick")


@pytest.mark.parametrize(
    ("cause", "evidence", "following"),
    [
        ("data", "INVALID_ARGUMENT, code 3", "--set training_dataset=FILE"),
        ("configuration", "INVALID_ARGUMENT, code 3", "--set NAME=VALUE"),
        ("permission", "missing then: storage.objects.get for service-", "runner jobs clone"),
        ("quota", "Global concurrent managed OSS model fine-tuning jobs", "request more"),
        ("capacity", "open models are tuned in europe-west4", "--to europe-west4"),
        ("platform", "no step was trained", "tell Google: projects/"),
    ],
)
def test_why_names_cause_evidence_and_next_command(
    cause: str, evidence: str, following: str, run: CommandLine, faulty: FaultyEmulator, in_project: Provisioned
) -> None:
    job = ended(faulty, in_project, f"fail={cause}")
    waited = run("jobs", "wait", job, "--format", "json")
    assert (waited.code, waited.error["code"]) == (5, "job_failed")
    assert waited.error["hint"] == f"`runner jobs why {job}`"
    outcome = run("jobs", "why", job, "--format", "json")
    assert outcome.code == 0, outcome.err
    body = outcome.document
    assert body["cause"] == cause
    assert evidence in " | ".join(body["evidence"])
    assert following in " | ".join(body["next"])
    assert run("jobs", "why", job, "-q").out == f"{cause}\n"


@pytest.mark.parametrize(("fault", "cause"), [("quota-wait=100000", "quota"), ("capacity-wait=100000", "capacity")])
def test_why_of_a_job_that_waits(
    fault: str, cause: str, run: CommandLine, faulty: FaultyEmulator, in_project: Provisioned
) -> None:
    job = job_of(faulty, in_project, fault)
    until(faulty, f"{in_project.parent}/tuningJobs/{job}", f"WAITING_FOR_{cause.upper()}")
    outcome = run("jobs", "why", job)
    assert outcome.code == 0
    assert f"cause     {cause}" in outcome.out
    assert "it is not stuck" in outcome.out


def test_why_names_missing_grants_with_the_command_that_mends_them(
    run: CommandLine, faulty: FaultyEmulator, in_project: Provisioned
) -> None:
    faulty.http.put(f"/storage/v1/b/{in_project.datasets}/iam", json={"bindings": []}).raise_for_status()
    job = created(faulty, in_project)["name"].rsplit("/", 1)[-1]
    until(faulty, f"{in_project.parent}/tuningJobs/{job}", "JOB_STATE_FAILED")
    body = run("jobs", "why", job, "--format", "json").document
    assert body["cause"] == "permission"
    commands = [text for text in body["next"] if "add-iam-policy-binding" in text]
    assert len(commands) == 2
    assert all(
        f"gs://{in_project.datasets} --member=serviceAccount:service-{in_project.number}@" in text for text in commands
    )


def test_why_names_the_lines_of_the_file(
    run: CommandLine, faulty: FaultyEmulator, in_project: Provisioned, tmp_path: Path
) -> None:
    content = b'\n{"prompt": "", "completion": "b"}\n{"prompt": "a"}\nno JSON\n'
    job = created(faulty, in_project, content=content)["name"].rsplit("/", 1)[-1]
    until(faulty, f"{in_project.parent}/tuningJobs/{job}", "JOB_STATE_FAILED", seconds=120)
    body = run("jobs", "why", job, "--format", "json").document
    assert body["cause"] == "data"
    assert [line["line"] for line in body["lines"]] == [2, 3, 4]
    assert all(line["findings"] for line in body["lines"])
    copy = tmp_path / "mine.jsonl"
    copy.write_bytes(content + b'{"prompt": "a", "completion": "b"}\n')
    shown = run("jobs", "why", job, "--train", str(copy))
    assert "3: " in shown.out
    assert "differs from the job's object" in shown.err


def test_why_with_a_file_that_is_not_there(run: CommandLine, in_project: Provisioned) -> None:
    outcome = run("jobs", "why", "latest", "--train", "nothing.jsonl")
    hint = "`runner jobs why --help` has examples"
    assert (outcome.code, outcome.err) == (
        2,
        f"error: --train nothing.jsonl: no such file\nhint: {hint}\n",
    )


def test_why_of_a_job_that_is_not_there(run: CommandLine, in_project: Provisioned) -> None:
    outcome = run("jobs", "why", "4711", "--format", "json")
    assert (outcome.code, outcome.error["code"]) == (4, "not_found")
