"""The idle guard's pass over an emulator, and what its function is built from."""

from __future__ import annotations

import ast
import re
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import httpx

from infra.evaluation import evaluate
from infra.idle_guard import source
from runner.emulator.server import EmulatorServer
from tests.infra.evaluation import FULL
from tests.infra.guard_function import call, closure, unpack
from tests.provisioning import Provisioned

MODEL = "meta/llama3_1@llama-3.1-8b-instruct"


def variables(project: Provisioned, url: str, state: Path) -> dict[str, str]:
    return {
        "RUNNER_PROJECT": project.project,
        "RUNNER_REGIONS": f"{project.location},europe-west4",
        "RUNNER_VERTEX_URL": url,
        "RUNNER_STORAGE_URL": url,
        "RUNNER_STATE_DIR": str(state),
        "RUNNER_JOBS_ENDED_MINUTES": "30",
        "RUNNER_JOBS_WAITING_HOURS": "0",
    }


def submit(project: Provisioned, location: str, fate: str) -> str:
    """Create a job that meets a fate, and return its name."""
    body = {
        "baseModel": MODEL,
        "supervisedTuningSpec": {"trainingDatasetUri": f"gs://{project.datasets}/train.jsonl"},
        "outputUri": f"gs://{project.outputs}/{fate.replace('=', '-')}",
        "tunedModelDisplayName": fate,
    }
    url = f"{project.url}/v1beta1/projects/{project.project}/locations/{location}/tuningJobs"
    answer = httpx.post(url, json=body, headers={"x-emulator-fault": fate}, trust_env=False, timeout=120)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["name"])


def wait(url: str, name: str, wanted: str) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        body = httpx.get(f"{url}/v1beta1/{name}", trust_env=False, timeout=60).json()
        if wanted in (body["state"], body.get("tuningJobState")):
            return
        time.sleep(0.1)
    raise AssertionError(f"{name} is not {wanted}: {body}")


def matching(graph: list[dict[str, Any]], entry: dict[str, Any]) -> list[str]:
    """Return the events of the alerts that an entry of the function's log sets off."""
    found = []
    for alert in graph:
        for condition in alert["conditions"]:
            wanted = re.search(
                r'jsonPayload\.event = "([^"]+)"', condition.get("conditionMatchedLog", {}).get("filter", "")
            )
            if wanted and entry["event"] == wanted[1]:
                # One incident for each job needs the field that the extractor reads.
                assert entry["job"]
                found.append(wanted[1])
    return found


def test_the_function_names_jobs_that_fail_and_wait_as_the_alerts_expect(
    project: Provisioned, emulator: EmulatorServer, tmp_path: Path
) -> None:
    failed = submit(project, project.location, "fail=data")
    waiting = submit(project, "global", "quota-wait=3600")
    wait(emulator.url, failed, "JOB_STATE_FAILED")
    wait(emulator.url, waiting, "TUNING_JOB_STATE_WAITING_FOR_QUOTA")
    guard, jobs = unpack(tmp_path), dict[str, Any]()
    while "job waiting" not in jobs:  # the service's clock has whole seconds
        answer, said = call(guard, **variables(project, emulator.url, tmp_path / "state"))
        assert answer == "('done', 200)"
        jobs = {entry["event"]: entry for entry in said if "job" in entry}
    httpx.post(f"{emulator.url}/v1beta1/{waiting}:cancel", json={}, trust_env=False, timeout=120)
    assert jobs["job failed"]["job"].endswith(failed.split("/locations/")[1])
    assert (jobs["job failed"]["severity"], jobs["job waiting"]["severity"]) == ("ERROR", "WARNING")
    assert "TUNING_JOB_STATE_WAITING_FOR_QUOTA" in jobs["job waiting"]["message"]
    assert jobs["job waiting"]["location"] == "global"
    alerts = [item.inputs for item in evaluate(FULL).of_type(":AlertPolicy")]
    assert sorted(event for entry in jobs.values() for event in matching(alerts, entry)) == [
        "job failed",
        "job waiting",
    ]


def test_where_nothing_answers_the_function_fails_and_says_so(project: Provisioned, tmp_path: Path) -> None:
    answer, said = call(unpack(tmp_path), **variables(project, "http://127.0.0.1:9", tmp_path / "state"))
    assert answer.endswith("500)")
    assert {entry["event"] for entry in said} == {"error"}
    assert {entry["location"] for entry in said} == {project.location, "europe-west4", "global"}


def test_its_requirements_are_the_projects() -> None:
    names = {line.split("==")[0] for line in source.requirements().splitlines() if "==" in line and line[0] != " "}
    asked = {re.split(r"[\[<>=]", line)[0] for line in source.imported()}
    assert asked <= names
    assert "functions-framework" in asked
    assert not {"rich", "pulumi", "torch"} & names


def test_its_archive_imports_nothing_that_it_does_not_ask_for_or_bring() -> None:
    """Imports inside functions too, which a pass may not reach."""
    owners = metadata.packages_distributions()
    allowed = closure(source.imported())
    modules = {name.removesuffix(".py").replace("/", ".").removesuffix(".__init__") for name in source.files()}
    for name, path in source.files().items():
        if path.suffix != ".py":
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            wanted = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                if name == "runner/__init__.py" and node.level:
                    continue  # told to type checkers, never run
                assert node.level == 0, name
                wanted = [node.module or ""]
            for module in wanted:
                top = module.split(".")[0]
                if top == "runner":
                    assert module in modules, f"{name} imports {module}, which the archive lacks"
                elif top not in sys.stdlib_module_names:
                    mine = {re.sub(r"[-_.]+", "-", owner).lower() for owner in owners[top]}
                    assert mine & allowed, f"{name} imports {module}, which the requirements lack"
