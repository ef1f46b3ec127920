"""In which jobs the code of a change runs, and that such a job can do nothing but read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.infra.identities import pipelines
from tests.infra.identities.pipelines import FOLDER, Job

JOBS = list(pipelines.github_jobs())
OF_THE_MAIN_BRANCH = {"schedule", "workflow_dispatch", "push", "pull_request_target", "workflow_run", "issue_comment"}
"""Events whose workflow file is the main branch's (of push and dispatch, where the binding or `if` says so)."""
_IGNORED = re.compile(r"zizmor: ignore\[([a-z-]+)\](.*)")


def checkouts(job: Job) -> list[dict[str, Any]]:
    return [step.get("with", {}) for step in job.body["steps"] if step.get("uses", "").startswith("actions/checkout@")]


def runs_the_change(job: Job) -> bool:
    """Tell whether the job's working tree is the change's."""
    if not job.triggers <= OF_THE_MAIN_BRANCH:
        # The event checks the change out unless told otherwise.
        return any("path" not in given and "base" not in str(given.get("ref", "")) for given in checkouts(job))
    return any("path" not in given and given.get("ref") for given in checkouts(job))


@pytest.mark.parametrize("job", JOBS, ids=lambda job: f"{job.file}:{job.name}")
def test_a_job_that_runs_the_change_writes_nowhere(job: Job) -> None:
    if runs_the_change(job):
        assert job.permissions == frozenset()
        # The one identity that it may have is that of the reader: test_trust.py.
        assert not job.identity or job.file == "infra-preview.yml"


def runs_nothing(job: Job) -> bool:
    """Tell whether a job is GitHub's own action that publishes the site, and nothing else."""
    uses = [step.get("uses", "").partition("@")[0] for step in job.body["steps"]]
    return uses == ["actions/deploy-pages"]


@pytest.mark.parametrize("job", JOBS, ids=lambda job: f"{job.file}:{job.name}")
def test_no_job_has_both_an_identity_and_a_right_to_write(job: Job) -> None:
    assert not (job.identity and job.permissions) or (runs_nothing(job) and job.permissions == {"pages"})


@pytest.mark.parametrize("job", [job for job in JOBS if job.identity or job.permissions], ids=lambda job: job.file)
def test_a_job_with_rights_takes_no_cache_and_no_secret(job: Job) -> None:
    text = repr(job.body)
    assert "actions/cache" not in text
    assert not re.search(r"'(cache|cache-dependency-path)'", text)
    assert "secrets." not in text


WRITERS = [job for job in JOBS if job.permissions and not runs_nothing(job)]


@pytest.mark.parametrize("job", WRITERS, ids=lambda job: f"{job.file}:{job.name}")
def test_what_writes_reads_artifacts_as_data_only(job: Job) -> None:
    """Its only program is the main branch's report; artefacts lie in a folder that nothing is run from."""
    folders = [
        step["with"]["path"] for step in job.body["steps"] if "actions/download-artifact@" in step.get("uses", "")
    ]
    assert folders
    scripts = "\n".join(step.get("run", "") for step in job.body["steps"])
    for folder in folders:
        named = [line.strip() for line in scripts.splitlines() if f" {folder}" in line]
        assert named
        assert all(re.search(r"python3 -m infra\.automation\.report (comment|drift|markdown) ", line) for line in named)
    assert not re.search(r"\b(eval|source|bash|sh|pip|\.venv)\b", scripts)


def test_the_change_beside_the_main_branchs_code_is_data() -> None:
    """`jobs-plan` runs with an identity: what it checks out of the change goes through one door, and is then gone."""
    (job,) = [job for job in JOBS if job.file == "jobs-plan.yml" and job.identity]
    assert job.triggers == {"pull_request_target"}
    assert [given.get("path") for given in checkouts(job)] == [None, "change"]
    assert "ref" not in checkouts(job)[0]
    assert checkouts(job)[1]["sparse-checkout"] == "jobs"
    steps = job.body["steps"]
    (taken,) = [index for index, step in enumerate(steps) if "infra.automation.change" in step.get("run", "")]
    assert steps[taken]["run"] == (
        "rm -rf jobs && .venv/bin/python -m infra.automation.change change/jobs jobs && rm -rf change"
    )
    (login,) = [index for index, step in enumerate(steps) if "google-github-actions/auth@" in step.get("uses", "")]
    assert taken < login
    assert "head.repo.full_name == github.repository" in job.body["if"]


def test_a_silenced_warning_has_a_reason_and_a_test() -> None:
    """`test_the_change_beside_the_main_branchs_code_is_data` and the test of the action hold what they say."""
    found = {}
    for path in sorted(FOLDER.parent.rglob("*.y*ml")):
        for match in _IGNORED.finditer(path.read_text("utf-8")):
            assert match[1] != "*"
            (named,) = re.findall(r"\((tests/[\w/]+\.py)\)", match[2])
            assert (Path(__file__).parents[2] / named).is_file()
            found[path.name] = match[1]
    assert found == {"jobs-plan.yml": "dangerous-triggers", "action.yml": "github-env"}
    # Nor is anything switched off elsewhere.
    assert not [path for path in FOLDER.parents[1].glob("**/zizmor.y*ml") if ".venv" not in path.parts]


def test_only_a_preview_and_checks_start_by_a_change() -> None:
    started = {job.file for job in JOBS if job.triggers & {"pull_request", "pull_request_review", "merge_group"}}
    assert started == {"fuzz.yml", "infra-check.yml", "infra-preview.yml", "supply-chain.yml", "tests.yml"}
    for job in JOBS:
        if job.file in started - {"infra-preview.yml"}:
            assert not job.identity
            assert not job.permissions


def test_forks_are_not_previewed() -> None:
    (job,) = [job for job in JOBS if job.file == "infra-preview.yml" and job.identity]
    assert "head.repo.full_name == github.repository" in job.body["if"]


def test_cloud_builds_triggers() -> None:
    """The commands in the file make them: the change's builds have the reader, deploying is of main and approved."""
    text = (FOLDER.parents[1] / "deploy" / "cloudbuild.yaml").read_text("utf-8")
    commented = "\n".join(line.lstrip("# ") for line in text.splitlines() if line.startswith("#"))
    commands = re.findall(r"gcloud builds triggers create (?:.*\\\n)*.*", commented)
    accounts = {}
    for command in commands:
        (name,) = re.findall(r"--name=(\S+)", command)
        (accounts[name],) = re.findall(r"serviceAccounts/([\w-]+)@", command)
        if "--pull-request-pattern" in command:
            assert "--comment-control=COMMENTS_ENABLED" in command
            assert accounts[name] == "tuning-preview"
        if accounts[name] == "tuning-deploy":
            assert "--branch-pattern='^main$'" in command
            assert "--require-approval" in command
    assert accounts == {
        "infra-preview": "tuning-preview",
        "infra-up": "tuning-deploy",
        "infra-drift": "tuning-preview",
    }
