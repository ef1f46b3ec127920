"""The program applied to a live emulator without the engine: made, unchanged, repaired, changed, removed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from infra.automation.embedded_preview import preview
from infra.embedded import EmbeddedError, apply, destroy
from infra.embedded.apply import configuration
from runner.emulator.server import EmulatorServer
from runner.emulator.settings import EmulatorSettings
from runner.environment import resolve
from tests.infra.embedded_stack import GUARDRAILS, Stack


def test_what_is_made_is_there(stack: Stack, tmp_path: Path) -> None:
    result = stack.apply()
    assert (result.updated, result.unchanged, result.deleted) == ((), (), ())
    number = result.environment["projectNumber"]
    for kind in ("datasets", "images", "outputs"):
        for agent in ("gcp-sa-aiplatform", "gcp-sa-vertex-moss-ft"):
            member = f"serviceAccount:service-{number}@{agent}.iam.gserviceaccount.com"
            assert ("roles/storage.objectUser", member) in stack.members(kind)
    bucket = stack.request("GET", f"/storage/v1/b/{stack.project}-outputs")
    assert bucket["iamConfiguration"]["publicAccessPrevention"] == "enforced"
    own = {"goog-pulumi-provisioned": "true", "managed-by": "pulumi", "tuning-stack": "local"}
    assert bucket["labels"] == {"content": "outputs", **own}
    assert {"type": "Delete"} in [rule["action"] for rule in bucket["lifecycle"]["rule"]]
    assert stack.request("GET", stack.account)["displayName"] == f"Open model tuning runner ({stack.project})"
    assert stack.request("GET", stack.endpoint)["displayName"] == f"{stack.project}-tuned"
    published = stack.request("GET", f"/storage/v1/b/{stack.project}-contract/o/environment.json?alt=media")
    assert published == result.environment
    file = tmp_path / "environment.json"
    file.write_text(json.dumps(published))
    assert resolve({"environment": str(file)}).vertex_url == stack.url


def test_a_second_application_changes_nothing(stack: Stack) -> None:
    first = stack.apply(**GUARDRAILS)
    second = stack.apply(**GUARDRAILS)
    assert (second.created, second.updated, second.deleted) == ((), (), ())
    assert sorted(second.unchanged) == sorted(first.created)
    assert second.environment == first.environment
    values = configuration(stack.url, project=stack.project, location="us-central1", config=GUARDRAILS)
    assert preview(values, stack.state, "local")["text"] == "0 to create, 0 to update, 0 to replace, 0 to delete"
    elsewhere = preview({**values, "gcp:region": "europe-west4"}, stack.state, "local")
    assert {"Bucket outputs", "AiEndpoint endpoint", "Function idle-guard"} <= set(elsewhere["replaced"])


def test_drift_is_repaired(stack: Stack) -> None:
    stack.apply()
    bucket = f"/storage/v1/b/{stack.project}-datasets"
    stack.request("PATCH", bucket, {"iamConfiguration": {"publicAccessPrevention": "inherited"}})
    stack.request("PUT", f"/storage/v1/b/{stack.project}-images/iam", {"bindings": []})
    stack.request("DELETE", stack.endpoint)
    result = stack.apply()
    assert result.updated == ("Bucket datasets",)
    repaired = {name for name in result.created if name.startswith("BucketIAMMember")}
    assert repaired >= {
        f"BucketIAMMember {agent}/{stack.project}-images/storage-objectUser" for agent in ("aiplatform", "tuning")
    }
    assert "AiEndpoint endpoint" in result.created
    assert stack.request("GET", bucket)["iamConfiguration"]["publicAccessPrevention"] == "enforced"
    assert stack.status(stack.endpoint) == 200


def test_changed_settings_change_what_is_there(stack: Stack) -> None:
    stack.apply(labels='{"team": "ml", "cost": "a"}')
    result = stack.apply(labels='{"team": "search"}', softDeleteDays="14")
    assert set(result.updated) == {
        "AiEndpoint endpoint",
        "Bucket contract",
        "Bucket datasets",
        "Bucket images",
        "Bucket outputs",
        "Function idle-guard",
    }
    bucket = stack.request("GET", f"/storage/v1/b/{stack.project}-images")
    assert bucket["softDeletePolicy"]["retentionDurationSeconds"] == str(14 * 86_400)
    assert bucket["labels"]["team"] == "search"
    assert "cost" not in bucket["labels"]
    assert stack.request("GET", stack.endpoint)["labels"]["team"] == "search"
    assert "cost" not in stack.request("GET", stack.endpoint)["labels"]
    assert stack.apply(labels='{"team": "search"}', softDeleteDays="14").updated == ()


def test_a_label_that_somebody_else_gave_stays(stack: Stack) -> None:
    stack.apply()
    bucket = f"/storage/v1/b/{stack.project}-images"
    stack.request("PATCH", bucket, {"labels": {"theirs": "yes"}})
    assert stack.apply().updated == ()
    assert stack.request("GET", bucket)["labels"]["theirs"] == "yes"


def test_what_the_settings_no_longer_ask_for_goes(stack: Stack) -> None:
    stack.apply(**GUARDRAILS)
    result = stack.apply()
    assert "Budget budget" in result.deleted
    assert "WorkloadIdentityPool github" in result.deleted
    assert "AiEndpoint endpoint" not in result.deleted
    again = stack.apply(**GUARDRAILS)
    assert "WorkloadIdentityPool github" in again.created


def test_a_lost_state_takes_over_what_is_there(stack: Stack) -> None:
    first = stack.apply()
    stack.state.unlink()
    second = stack.apply()
    assert second.updated == ()
    assert second.environment == first.environment
    assert stack.destroy().deleted


def test_a_fresh_emulator_gets_everything_again(stack: Stack) -> None:
    stack.apply()
    state = json.loads(stack.state.read_text())
    stack.destroy()
    stack.state.write_text(json.dumps(state))
    result = stack.apply()
    assert "Bucket datasets" in result.created
    assert stack.status(f"/storage/v1/b/{stack.project}-datasets") == 200


def test_what_was_made_before_a_failure_is_remembered(stack: Stack) -> None:
    faults = {"faults": ["storage.buckets.insert:status=400,times=1"]}
    stack.request("POST", "/_emulator/faults", faults)
    with pytest.raises(EmbeddedError, match="creating Bucket"):
        stack.apply()
    made = {row["name"] for row in json.loads(stack.state.read_text())["stacks"][stack.project]["resources"]}
    assert {"aiplatform", "storage"} <= made
    assert "environment" not in made
    assert "BucketObject environment" in stack.apply().created


def test_the_command_line(stack: Stack, tmp_path: Path) -> None:
    output = tmp_path / "environment.json"
    common = [sys.executable, "-m", "infra.embedded", "--state", str(stack.state)]
    options = ["--emulator", stack.url, "--project", stack.project, "--location", "europe-west4"]

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*common, *arguments], capture_output=True, text=True, check=False, timeout=240)

    made = call(*options, "--output", str(output), "--config", "scratchDays=3")
    assert made.returncode == 0, made.stderr
    assert "not the Pulumi engine" in made.stderr
    assert made.stdout == ""
    assert json.loads(output.read_text())["location"] == "europe-west4"
    wrong = call(*options, "--config", "scratchDays=0", "--config", "protect=perhaps")
    assert wrong.returncode == 2
    assert "scratchDays" in wrong.stderr
    assert "protect" in wrong.stderr
    gone = call("--destroy", "--project", stack.project)
    assert gone.returncode == 0, gone.stderr
    assert "- Bucket datasets" in gone.stderr


def test_an_emulator_with_a_token(tmp_path: Path) -> None:
    settings = EmulatorSettings(directory=tmp_path / "emulator", stand_in="tiny", token="only-for-this-test")
    state = tmp_path / "state.json"
    with EmulatorServer(settings) as server:
        with pytest.raises(EmbeddedError, match="401"):
            apply(server.url, state=state)
        result = apply(server.url, config={"gcp:accessToken": "only-for-this-test"}, state=state)
        assert "Bucket datasets" in result.created
        assert "only-for-this-test" not in state.read_text()
        assert destroy(state, token="only-for-this-test").deleted


def test_nothing_answers(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedError, match="no answer from") as caught:
        apply("http://127.0.0.1:9", state=tmp_path / "state.json")
    assert (caught.value.code, caught.value.exit_code) == ("unreachable", 69)
    assert caught.value.hint


def test_an_agent_that_appears_late_is_waited_for(tmp_path: Path) -> None:
    settings = EmulatorSettings(directory=tmp_path / "emulator", stand_in="tiny")
    with EmulatorServer(settings) as server:
        withheld = ["storage.buckets.setIamPolicy:agent-missing,times=4"]
        faults = f"{server.url}/_emulator/faults"
        answer = httpx.post(faults, json={"faults": withheld}, trust_env=False, timeout=120)
        assert answer.is_success, answer.text
        result = apply(server.url, project="late", state=tmp_path / "state.json")
        assert "BucketIAMMember tuning/late-outputs/storage-objectUser" in result.created
        hits = [fault["hits"] for fault in httpx.get(faults, trust_env=False, timeout=120).json()["faults"]]
        assert hits == [4]
        assert apply(server.url, project="late", state=tmp_path / "state.json").created == ()


def test_the_runner_writes_the_records_of_jobs_and_nothing_else_of_the_contract(
    emulator: EmulatorServer, tmp_path: Path
) -> None:
    project = f"records-{os.getpid()}"
    applied = apply(emulator.url, project=project, location="us-central1", config={}, state=tmp_path / "state.json")
    bucket, runner = applied.environment["buckets"]["contract"], applied.environment["runnerServiceAccount"]
    with httpx.Client(base_url=emulator.url, timeout=120) as client:
        enabled = client.post(f"/v1/projects/{project}/services/iamcredentials.googleapis.com:enable", json={})
        assert enabled.status_code == 200, enabled.text
        asked = {"scope": ["https://www.googleapis.com/auth/cloud-platform"]}
        answer = client.post(f"/v1/projects/-/serviceAccounts/{runner}:generateAccessToken", json=asked)
        client.headers["Authorization"] = f"Bearer {answer.json()['accessToken']}"

        def put(name: str) -> int:
            where = f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name={name}"
            return client.post(where, content=b"{}").status_code

        assert put("runner/state/us-central1/job.json") == 200
        assert put("environment.json") == 403


def test_another_account_of_the_runner_gets_what_the_old_one_had(stack: Stack) -> None:
    """The old one is deleted, and the policies that still name it can be changed."""
    stack.apply()
    old = f"serviceAccount:tuning-runner@{stack.project}.iam.gserviceaccount.com"
    had = {role for role, member in stack.members("outputs") if member == old}
    stack.request("DELETE", stack.account)  # by hand, before anything was revoked
    assert {role for role, member in stack.members("outputs") if member.startswith(f"deleted:{old}?uid=")} == had
    stack.apply(runnerAccountId="tuning-other")
    new = f"serviceAccount:tuning-other@{stack.project}.iam.gserviceaccount.com"
    assert {role for role, member in stack.members("outputs") if member == new} == had
    assert stack.apply(runnerAccountId="tuning-other").created == ()
