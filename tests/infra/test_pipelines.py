"""Workflows and pipelines: YAML that parses, permissions that are small, and commands that exist."""

from __future__ import annotations

import http.server
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import click
import pytest
import yaml

from infra.automation import gitlab_issue, report
from infra.trust.bindings import GITHUB_USES
from runner.cli.main import root
from tests.infra.identities import pipelines

ROOT = Path(__file__).resolve().parents[2]
EVERY_WORKFLOW = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
WORKFLOWS = [path for path in EVERY_WORKFLOW if path.name.startswith("infra-")]
OTHERS = sorted((ROOT / "deploy").rglob("*.y*ml"))
_COMMAND = re.compile(r"\.venv/bin/runner (infra [^\n|>&]*)")
_MODULE = re.compile(r"python3? -m (infra\.[a-z_.]+)")


def documents(path: Path) -> list[Any]:
    return list(yaml.safe_load_all(path.read_text("utf-8")))


def workflow(name: str) -> dict[str, Any]:
    (body,) = documents(ROOT / ".github" / "workflows" / name)
    return dict(body)


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
    assert {use.file for use in GITHUB_USES} < {path.name for path in EVERY_WORKFLOW}


@pytest.mark.parametrize("path", EVERY_WORKFLOW, ids=lambda path: path.name)
def test_workflows_are_careful(path: Path) -> None:
    body = workflow(path.name)
    assert body["permissions"] in ({}, {"contents": "read"})
    for name, job, step in steps(body):
        assert job["timeout-minutes"] <= 90
        if "uses" in step:
            assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", step["uses"]), step["uses"]
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False, name
        # A value that somebody else chose must not become a part of a script.
        assert "${{" not in step.get("run", ""), name
    assert "secrets." not in path.read_text("utf-8")


def test_an_action_is_pinned_to_one_commit_everywhere_and_says_its_version() -> None:
    pins: dict[str, set[tuple[str, str]]] = {}
    for path in EVERY_WORKFLOW:
        for line in path.read_text("utf-8").splitlines():
            if "uses:" in line:
                match = re.fullmatch(r"\s*-? *uses: ([\w/-]+)@([0-9a-f]{40}) # (v\d+\.\d+\.\d+)", line)
                assert match, f"{path.name}: {line}"
                pins.setdefault(match[1], set()).add((match[2], match[3]))
    assert {action: len(found) for action, found in pins.items()} == dict.fromkeys(pins, 1)


def test_one_version_of_the_engine_which_is_that_of_the_library() -> None:
    texts = [path.read_text("utf-8") for path in [*WORKFLOWS, *OTHERS]]
    shapes = r'pulumi-version: "([\d.]+)"|--version ([\d.]+)|pulumi-python-[\d.]+:([\d.]+)'
    named = {version for text in texts for found in re.findall(shapes, text) for version in found if version}
    (locked,) = re.findall(r"^pulumi==([\d.]+)", (ROOT / "requirements.lock").read_text("utf-8"), re.MULTILINE)
    assert named == {locked}


_PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
_ACTIONLINT = shutil.which("actionlint", path=_PATH)
_ZIZMOR = shutil.which("zizmor", path=_PATH)


@pytest.mark.skipif(_ACTIONLINT is None, reason="needs actionlint on PATH")
def test_actionlint_finds_nothing() -> None:
    command = [str(_ACTIONLINT), "-no-color", *map(str, EVERY_WORKFLOW)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout


@pytest.mark.skipif(_ZIZMOR is None, reason="needs zizmor: `pip install zizmor`")
def test_zizmor_finds_nothing() -> None:
    command = [str(_ZIZMOR), "--offline", "--no-progress", "--persona", "pedantic", ".github"]
    command += ["--min-severity", "low"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_gitlab_pipeline_is_whole() -> None:
    (body,) = documents(ROOT / "deploy" / "gitlab-ci.yml")
    jobs = {name: job for name, job in body.items() if isinstance(job, dict) and not name.startswith(".")}
    hidden = {name: job for name, job in body.items() if isinstance(job, dict) and name.startswith(".")}
    assert set(jobs) == {"infra-check", "infra-preview", "infra-up", "infra-drift", "jobs-apply"}
    for name, job in jobs.items():
        whole = {**hidden.get(job.get("extends", ""), {}), **job}
        assert job.get("extends") is None or job["extends"] in hidden
        assert whole["stage"] in body["stages"]
        assert whole["image"]
        assert whole["rules"], name
        assert all(isinstance(line, str) for line in [*whole["script"], *whole.get("before_script", [])])
        checked = subprocess.run(
            ["bash", "-n"], input="\n".join([*whole.get("before_script", []), *whole["script"]]), text=True, check=False
        )
        assert checked.returncode == 0
    # Only what deploys has the deploying account, behind an environment, and it is not cut off.
    accounts = {name: job.get("variables", {}).get("GOOGLE_ACCOUNT") for name, job in jobs.items()}
    assert [name for name, account in accounts.items() if account == "$DEPLOY_ACCOUNT"] == ["infra-up"]
    assert jobs["infra-up"]["environment"]["name"] == "$STACK"
    assert (jobs["infra-up"]["interruptible"], jobs["infra-up"]["resource_group"]) == (False, "infra-$STACK")
    (own,) = jobs["infra-preview"]["rules"]
    assert "$CI_MERGE_REQUEST_SOURCE_PROJECT_ID == $CI_PROJECT_ID" in own["if"]
    # The token's file that the credentials name is the one that was written.
    (written,) = re.findall(r"GOOGLE_ID_TOKEN\" > (\S+)", "\n".join(hidden[".infra"]["before_script"]))
    (credentials,) = re.findall(r"'(\{.*\})'", "\n".join(hidden[".infra"]["before_script"]))
    assert json.loads(credentials)["credential_source"]["file"] == written


def test_the_cloud_build_file_is_whole() -> None:
    (body,) = documents(ROOT / "deploy" / "cloudbuild.yaml")
    (step,) = body["steps"]
    assert int(body["timeout"].removesuffix("s")) <= 24 * 3600
    text = json.dumps(step)
    # Every substitution has a value, and what is for the shell is written with two dollars.
    assert set(re.findall(r"\$\{(_\w+)\}", text)) == set(body["substitutions"])
    script = step["args"][-1]
    assert not re.search(r"(?<!\$)\$(?!\$)[A-Z]", script)
    checked = subprocess.run(["bash", "-n"], input=script.replace("$$", "$"), text=True, check=False)
    assert checked.returncode == 0
    names = {item.split("=")[0] for item in step["env"]}
    assert {"BRANCH", "PULUMI_BACKEND_URL", "STACK", "VERB"} == names


def test_the_operators_stack_is_whole() -> None:
    account, stack = documents(ROOT / "deploy" / "pulumi-kubernetes-operator" / "stack.yaml")
    assert (stack["apiVersion"], stack["kind"]) == ("pulumi.com/v1", "Stack")
    spec = stack["spec"]
    assert (
        spec["serviceAccountName"]
        == account["metadata"]["name"]
        == spec["workspaceTemplate"]["spec"]["serviceAccountName"]
    )
    assert stack["metadata"]["namespace"] == account["metadata"]["namespace"]
    assert (ROOT / spec["repoDir"] / f"Pulumi.{spec['stack']}.yaml").is_file()
    assert spec["branch"].startswith("refs/heads/")
    # Deleting the object leaves buckets; drift is looked for and repaired also when no commit comes.
    assert spec["destroyOnFinalize"] is False
    assert (spec["refresh"], spec["continueResyncOnCommitMatch"]) == (True, True)
    assert spec["resyncFrequencySeconds"] >= 60


def test_deploying_waits_for_an_environment_and_is_never_killed() -> None:
    body = workflow("infra-up.yml")
    job = body["jobs"]["up"]
    assert job["environment"] == "${{ matrix.stack.name }}"
    assert job["concurrency"]["cancel-in-progress"] is False
    assert job["strategy"]["max-parallel"] == 1
    assert set(pipelines.triggers(body)) == {"push", "workflow_dispatch"}
    assert pipelines.triggers(body)["push"]["branches"] == ["main"]
    assert "refs/heads/main" in job["if"]


PREVIEWS: dict[str, dict[str, Any]] = {
    "dev": {"changes": 0, "summary": {"same": 20}, "diff": "nothing"},
    "prod": {
        "changes": 3,
        "summary": {"OpType.SAME": 50, "OpType.CREATE": 2, "OpType.DELETE": 1},
        "diff": "member: user:ada@example.com ``` google-beta@9.35.0\n012345-6789AB-CDEF01 projects/123456789012 principalSet://iam/x",
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
    assert "google-beta@9.35.0" in text  # no account


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


def test_gitlab_is_told_numbers_only() -> None:
    previews = {**PREVIEWS, "dev": {"summary": {"same": 3, "replace": 2, "update": 1}}}
    assert report.counts(previews) == {"create": 4, "update": 1, "delete": 3}


class GitLab(http.server.BaseHTTPRequestHandler):
    """Issues of one project, by the calls and fields of GitLab's REST API."""

    issues: ClassVar[list[dict[str, Any]]] = []

    def answer(self, body: Any) -> None:
        assert self.headers["PRIVATE-TOKEN"] == "token"
        text = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def given(self) -> dict[str, Any]:
        return dict(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def do_GET(self) -> None:
        assert self.path == "/api/v4/projects/7/issues?state=opened&labels=infra-drift&per_page=1"
        self.answer([issue for issue in self.issues if issue["state"] == "opened"][:1])

    def do_POST(self) -> None:
        if self.path.endswith("/notes"):
            self.issues[int(self.path.split("/")[-2]) - 1]["notes"].append(self.given()["body"])
        else:
            assert self.path == "/api/v4/projects/7/issues"
            number = len(self.issues) + 1
            self.issues.append({"iid": number, "state": "opened", "notes": [], **self.given()})
        self.answer({})

    def do_PUT(self) -> None:
        issue, given = self.issues[int(self.path.rsplit("/", 1)[-1]) - 1], self.given()
        if given.pop("state_event", "") == "close":
            issue["state"] = "closed"
        issue.update(given)
        self.answer(issue)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def test_gitlab_has_one_issue_while_there_is_drift(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def night(preview: dict[str, Any]) -> int:
        file = tmp_path / "preview-prod.json"
        file.write_text(json.dumps(preview))
        return gitlab_issue.main([str(file)])

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), GitLab) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("CI_API_V4_URL", f"http://127.0.0.1:{server.server_port}/api/v4")
        monkeypatch.setenv("CI_PROJECT_ID", "7")
        monkeypatch.delenv("ISSUE_TOKEN", raising=False)
        assert night(PREVIEWS["prod"]) == 1
        assert GitLab.issues == []
        monkeypatch.setenv("ISSUE_TOKEN", "token")
        assert night(PREVIEWS["dev"]) == 0
        assert [night(PREVIEWS["prod"]), night(PREVIEWS["prod"])] == [1, 1]
        (issue,) = GitLab.issues
        assert issue["title"] == gitlab_issue.TITLE
        assert "2 create, 1 delete" in issue["description"]
        assert "ada@" not in issue["description"]
        assert night({**PREVIEWS["prod"], "summary": {"create": 1}}) == 1
        assert "1 create" in issue["description"]
        assert night(PREVIEWS["dev"]) == 0
        assert (issue["state"], issue["notes"]) == ("closed", ["The drift is gone."])
        assert night(PREVIEWS["prod"]) == 1
        assert [one["state"] for one in GitLab.issues] == ["closed", "opened"]
        server.shutdown()


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
