"""The shipped workflows of GitHub, step by step."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import httpx
import pytest
import yaml

from runner.emulator.server import EmulatorServer
from runner.emulator.settings import EmulatorSettings
from runner.gcp.session import Session
from tests.infra.clean_clone import ROOT
from tests.infra.github_steps import GitHub
from tests.infra.test_engine_alone import plugins
from tests.infra.test_engine_failures import needs_engine
from tests.jobs.manifests.folder import Manifests
from tests.provisioning import Provisioned


@pytest.fixture
def github(project: Provisioned, session: Session, tmp_path: Path) -> GitHub:
    """A repository whose `jobs/` has one manifest, and a project that its variables name."""
    made = GitHub(tmp_path)
    contract = f"{project.project}-contract"
    bucket = {"name": contract, "location": project.location}
    httpx.post(
        f"{project.url}/storage/v1/b?project={project.project}", json=bucket, trust_env=False, timeout=120
    ).raise_for_status()
    document = {
        "version": 1,
        "project": project.project,
        "projectNumber": project.number,
        "location": project.location,
        "buckets": {
            "datasets": project.datasets,
            "images": project.images,
            "outputs": project.outputs,
            "contract": contract,
        },
        "apiEndpoints": {"vertex": project.url, "storage": project.url},
    }
    (tmp_path / "environment.json").write_text(json.dumps(document))
    made.expressions = {
        "vars.RUNNER_ENVIRONMENT": str(tmp_path / "environment.json"),
        "vars.RUNNER_MAX_HOURLY_COST": "100",
        "github.token": "token",
        "github.event.pull_request.number": "7",
    }
    made.variables = {"RUNNER_STATE_DIR": str(tmp_path / "state"), "RUNNER_TOKEN": "a-token"}
    shutil.rmtree(made.clone / "jobs", ignore_errors=True)
    folder = tmp_path / "change" / "jobs"
    folder.mkdir(parents=True)
    (folder / "train.jsonl").write_text(
        "".join(
            json.dumps({"messages": [{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": f"{n}!"}]})
            + "\n"
            for n in range(12)
        )
    )
    Manifests(folder).add("greeter", spec="maxCost: 1.0")
    return made


def test_jobs_are_planned_applied_and_looked_after(github: GitHub, project: Provisioned) -> None:
    code, _, said = github.job("jobs-plan.yml", "plan")
    assert code == 0, said
    assert github.job("jobs-plan.yml", "comment")[0] == 0
    assert github.job("jobs-plan.yml", "comment")[0] == 0  # the second time, the same comment
    assert len(github.held["comments"]) == 1
    assert "greeter" in github.held["comments"]["1"]

    code, found, said = github.job("jobs-drift.yml", "drift")
    assert (code, found["look.status"]) == (0, "2"), said
    assert github.job("jobs-drift.yml", "issue", {"needs.drift.outputs.status": "2"})[0] == 0
    assert github.held["issues"]["1"]["open"]

    code, _, said = github.job("jobs-apply.yml", "apply")
    assert code == 0, said
    code, found, said = github.job("jobs-drift.yml", "drift")
    assert (code, found["look.status"]) == (0, "0"), said
    assert github.job("jobs-drift.yml", "issue", {"needs.drift.outputs.status": "0"})[0] == 0
    assert not github.held["issues"]["1"]["open"]

    # GitLab's job on the same manifests, which are carried out: its token's file is a place of the machine's.
    job = yaml.safe_load((ROOT / "deploy" / "gitlab-ci.yml").read_text())
    script = "\n".join([*job[".infra"]["before_script"], *job["jobs-apply"]["script"]])
    given = {"GOOGLE_PROVIDER": "projects/1/x", "GOOGLE_ACCOUNT": "a@b", "GOOGLE_ID_TOKEN": "token"}
    given["RUNNER_ENVIRONMENT"] = github.expressions["vars.RUNNER_ENVIRONMENT"]
    done = github.checkout.run(script.replace("/tmp/", f"{github.folder}/"), **github.variables, **given)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["summary"] == {"keep": 1}  # whether the job is still running or has ended


@pytest.mark.engine
@needs_engine
def test_a_stack_is_previewed_deployed_and_looked_after(tmp_path: Path) -> None:
    with EmulatorServer(EmulatorSettings(directory=tmp_path / "emulator", stand_in="tiny")) as server:
        github = GitHub(tmp_path, path=plugins(tmp_path / "plugins"))
        (tmp_path / "state").mkdir()
        file = github.clone / "Pulumi.local.yaml"
        file.write_text(file.read_text().replace("http://127.0.0.1:8085", server.url))
        github.variables = {"PULUMI_CONFIG_PASSPHRASE": "test"}
        github.expressions = {
            "matrix.stack.backend": f"file://{tmp_path / 'state'}",
            "matrix.stack.name": "local",
            "github.token": "token",
            "github.event.pull_request.number": "7",
        }

        def run(workflow: str, job: str) -> None:
            code, _, said = github.job(workflow, job)
            assert code == 0, said

        run("infra-preview.yml", "preview")
        run("infra-preview.yml", "comment")
        assert "create" in github.held["comments"]["1"]
        run("infra-up.yml", "up")
        run("infra-drift.yml", "preview")
        run("infra-drift.yml", "issue")
        assert github.held["issues"] == {}
        file.write_text(file.read_text() + "  open-model-tuning:softDeleteDays: 14\n")
        run("infra-drift.yml", "preview")
        run("infra-drift.yml", "issue")
        assert github.held["issues"]["1"]["open"]
