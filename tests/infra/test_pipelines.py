"""Workflows and pipelines: YAML that parses, permissions that are small, and commands that exist."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from infra.automation import report
from infra.components.pipelines import DEPLOY_WORKFLOW, PREVIEW_WORKFLOWS
from runner.cli.main import root

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("infra-*.yml"))
OTHERS = sorted((ROOT / "deploy").rglob("*.y*ml"))
_COMMAND = re.compile(r"\.venv/bin/runner (infra [^\n|>&]*)")
_MODULE = re.compile(r"python3? -m (infra\.[a-z_.]+)")


def documents(path: Path) -> list[Any]:
    return list(yaml.safe_load_all(path.read_text("utf-8")))


def workflow(name: str) -> dict[str, Any]:
    (body,) = documents(ROOT / ".github" / "workflows" / name)
    return dict(body)


def triggers(body: dict[Any, Any]) -> dict[str, Any]:
    """Return `on`, which YAML 1.1 reads as true."""
    keys: dict[Any, Any] = body
    return dict(keys.get("on") or keys[True])


def steps(body: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    for name, job in body["jobs"].items():
        for step in job["steps"]:
            yield name, job, step


@pytest.mark.parametrize("path", [*WORKFLOWS, *OTHERS], ids=lambda path: path.name)
def test_every_command_exists_and_takes_these_options(path: Path) -> None:
    assert all(documents(path))
    text = path.read_text("utf-8").replace("$$", "$")
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for found in _COMMAND.findall("\n".join(lines)):
        words = shlex.split(found)
        context = click.Context(root)
        command: click.Command = root
        while isinstance(command, click.Group):
            child = command.get_command(context, words.pop(0))
            assert child is not None, found
            command, context = child, click.Context(child, parent=context)
        known = {name for parameter in command.params for name in parameter.opts}
        assert {word for word in words if word.startswith("-")} <= known, found
    for module in _MODULE.findall(text):
        assert (ROOT / f"{module.replace('.', '/')}.py").is_file(), module


def test_something_is_called() -> None:
    called = {
        path.name for path in [*WORKFLOWS, *OTHERS] if _COMMAND.search(path.read_text("utf-8").replace("$$", "$"))
    }
    assert called == {"infra-preview.yml", "infra-up.yml", "infra-drift.yml", "gitlab-ci.yml", "cloudbuild.yaml"}


def test_the_accounts_are_bound_to_files_that_exist() -> None:
    names = {path.name for path in WORKFLOWS}
    assert {*PREVIEW_WORKFLOWS, DEPLOY_WORKFLOW} < names


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_are_careful(path: Path) -> None:
    body = workflow(path.name)
    assert "pull_request_target" not in triggers(body)
    assert body["permissions"] in ({}, {"contents": "read"})
    for name, job, step in steps(body):
        assert job["timeout-minutes"] <= 60
        if "uses" in step:
            assert re.fullmatch(r"[\w-]+/[\w-]+@(v\d+|[0-9a-f]{40})", step["uses"]), step["uses"]
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False, name
        # A value that somebody else chose must not become a part of a script.
        assert "${{" not in step.get("run", ""), name
    assert "secrets." not in path.read_text("utf-8")


def test_code_of_a_change_never_runs_with_a_right_to_write() -> None:
    body = workflow("infra-preview.yml")
    assert set(triggers(body)) == {"workflow_run"}
    preview, comment = body["jobs"]["preview"], body["jobs"]["comment"]
    assert "head_repository.full_name == github.repository" in preview["if"]
    assert preview["permissions"] == {"contents": "read", "id-token": "write"}
    assert "id-token" not in comment["permissions"]
    for step in comment["steps"]:
        assert "ref" not in step.get("with", {})
    accounts = [step["with"]["service_account"] for _, _, step in steps(body) if "auth" in step.get("uses", "")]
    assert accounts == ["${{ matrix.stack.preview }}"]


def test_deploying_waits_for_an_environment_and_is_never_killed() -> None:
    body = workflow("infra-up.yml")
    job = body["jobs"]["up"]
    assert job["environment"] == "${{ matrix.stack.name }}"
    assert job["concurrency"]["cancel-in-progress"] is False
    assert job["strategy"]["max-parallel"] == 1
    assert set(triggers(body)) == {"push", "workflow_dispatch"}
    assert triggers(body)["push"]["branches"] == ["main"]
    assert "refs/heads/main" in job["if"]


def test_only_the_offline_checks_run_for_pull_requests() -> None:
    body = workflow("infra-check.yml")
    assert "id-token" not in json.dumps(body)
    assert [path.name for path in WORKFLOWS if "pull_request" in triggers(workflow(path.name))] == ["infra-check.yml"]


PREVIEWS: dict[str, dict[str, Any]] = {
    "dev": {"changes": 0, "summary": {"same": 20}, "diff": "nothing"},
    "prod": {
        "changes": 3,
        "summary": {"OpType.SAME": 50, "OpType.CREATE": 2, "OpType.DELETE": 1},
        "diff": "member: user:ada@example.com ```\n012345-6789AB-CDEF01 projects/123456789012 principalSet://iam/x",
    },
    "broken": {"error": {"code": "infrastructure", "message": "denied to tuning-preview@p.iam.gserviceaccount.com"}},
}


def test_the_comment_tells_enough_and_names_nobody() -> None:
    text = report.comment(PREVIEWS)
    assert text.startswith(report.COMMENT_MARK)
    assert "| dev | no changes |  |" in text
    assert "| prod | 2 create, 1 delete | **deletes or replaces** |" in text
    assert "| broken | failed: infrastructure |" in text
    for secret in ("ada@", "012345-6789AB", "123456789012", "principalSet", "tuning-preview@"):
        assert secret not in text
    assert text.count("```") == 6


def test_a_long_preview_is_cut_and_the_comment_still_fits() -> None:
    text = report.comment({name: {"changes": 1, "diff": "x" * 100_000} for name in ("a", "b", "c")})
    assert len(text) < 65_536
    assert text.count("the rest is in the run's log") == 3


def test_drift_has_a_fingerprint_of_counts() -> None:
    assert report.drift({"dev": PREVIEWS["dev"]}) == ""
    first = report.drift(PREVIEWS)
    again = report.drift({**PREVIEWS, "prod": {**PREVIEWS["prod"], "diff": "another etag"}})
    assert first == again
    other = report.drift({"prod": {**PREVIEWS["prod"], "summary": {"create": 1}}})
    assert other.splitlines()[0] != first.splitlines()[0]
    assert "dev" not in first


def test_the_report_command(tmp_path: Path) -> None:
    (tmp_path / "preview-dev.json").write_text(json.dumps(PREVIEWS["dev"]))
    (tmp_path / "preview-prod.json").write_text("Traceback …")

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "infra.automation.report", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=120)

    dev, prod = (str(tmp_path / f"preview-{name}.json") for name in ("dev", "prod"))
    assert call("drift", dev).returncode == 0
    assert call("drift", dev, prod).returncode == 1
    assert "failed: no result" in call("comment", dev, prod).stdout
    assert call("comments", dev).returncode == 2
