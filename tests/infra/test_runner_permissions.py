"""The runner's account holds what its commands need: not one permission less, not one more."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from infra.components.runner_identity import RUNNER_PERMISSIONS, RUNNER_ROLE_ID
from runner.emulator import services
from runner.emulator.iam import needs
from runner.emulator.server import EmulatorServer
from tests.cli.invocation import CommandLine
from tests.infra import needs as called_methods
from tests.infra.embedded_stack import Stack
from tests.infra.needs import permissions, recorded

emulator = called_methods.emulator
MODEL = "meta/llama3_1@llama-3.1-8b-instruct"
MANIFEST = """\
apiVersion: open-model-tuning/v1
kind: TuningJob
metadata: {name: small}
spec:
  baseModel: %s
  mode: PEFT_ADAPTER
  hyperparameters: {epochs: 1}
  data: {train: train.jsonl}
  maxCost: 5
"""


@pytest.fixture
def as_runner(emulator: EmulatorServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    """A stack in which every command acts as the runner's account, with a token of its own."""
    stack = Stack(emulator.url, "runner-permissions", tmp_path / "stack.json")
    environment = stack.apply().environment
    document = tmp_path / "environment.json"
    document.write_text(json.dumps(environment))
    body = {"scope": ["https://www.googleapis.com/auth/cloud-platform"]}
    account = stack.account.rsplit("/", 1)[1]
    issued = stack.request("POST", f"/v1/projects/-/serviceAccounts/{account}:generateAccessToken", body)
    monkeypatch.setenv("RUNNER_ENVIRONMENT", str(document))
    monkeypatch.setenv("RUNNER_TOKEN", issued["accessToken"])
    yield stack
    stack.destroy()


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, state_directory: Path) -> CommandLine:
    """Runs command lines in this process."""
    return CommandLine(capsys, monkeypatch)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Job manifests with their data."""
    path = tmp_path / "jobs"
    path.mkdir()
    lines = [f'{{"prompt": "What is number {number}?", "completion": "It is {number}."}}\n' for number in range(12)]
    (path / "train.jsonl").write_text("".join(lines))
    (path / "held-out.jsonl").write_text("".join(lines[:2]))
    (path / "job.yaml").write_text(MANIFEST % MODEL)
    return path


def set_permissions(stack: Stack, held: tuple[str, ...]) -> None:
    path = f"/v1/projects/{stack.project}/roles/{RUNNER_ROLE_ID}?updateMask=includedPermissions"
    stack.request("PATCH", path, {"includedPermissions": list(held)})


@pytest.mark.training
def test_the_commands_need_each_of_the_runners_permissions_and_no_other(
    as_runner: Stack, run: CommandLine, folder: Path, tmp_path: Path
) -> None:
    stack, train = as_runner, str(folder / "train.jsonl")
    needed: dict[str, tuple[str, ...]] = {}
    """The command that needed a permission first."""

    def ask(*words: str, code: int = 0) -> str:
        with recorded(stack.url) as called:
            outcome = run(*words)
        assert outcome.code == code, f"{words} {outcome.err}"
        # What preflight cannot see of others' grants, it says and goes on.
        denied = [line for line in outcome.err.splitlines() if "denied" in line.lower()]
        assert all("getIamPolicy" in line for line in denied), (words, denied)
        for permission in permissions(called):
            needed.setdefault(permission, words)
        return outcome.out.strip()

    submit = ("jobs", "submit", "--model", MODEL, "--train", train, "--max-cost", "5", "-q")
    ask("doctor")
    ask("data", "upload", train)
    job = ask(*submit, "--epochs", "1", "--watch").splitlines()[0]
    cancelled = ask(*submit, "--epochs", "2").splitlines()[0]
    ask("jobs", "cancel", cancelled, "--yes")
    for words in (("ls",), ("show", job), ("metrics", job), ("why", job), ("wait", job)):
        ask("jobs", *words)
    # As on the service, which has no events, where a job has left no file either: its losses are in TensorBoard.
    no_events, no_file = "emulator.tuningJobs.events:status=404", "storage.objects.get:status=404,match=*.jsonl"
    stack.request("POST", "/_emulator/faults", {"faults": [no_events, no_file]})
    ask("jobs", "metrics", job)
    stack.request("DELETE", "/_emulator/faults")
    ask("checkpoints", "ls", job)
    ask("plan", "-f", str(folder), code=2)
    ask("apply", "-f", str(folder), "--yes", "--max-cost", "5")
    ask("queue", "ls")
    ask("drift", "-f", str(folder))
    ask("bill")
    ask("endpoints", "deploy", job, "--yes", "--max-cost", "50")
    endpoint = ask("endpoints", "ls", "-q").splitlines()[0]
    ask("endpoints", "show", endpoint)
    ask("endpoints", "traffic", endpoint)
    ask("endpoints", "extend", endpoint, "--lease", "2h")
    ask("predict", "What is number 1?", "--endpoint", endpoint)
    ask("chat", "What is number 1?", "--endpoint", endpoint)
    ask("leaks")
    ask("endpoints", "undeploy", endpoint, "--yes", "--delete")
    ask("leaks", "--clean", "--yes")
    assert set(needed) == set(RUNNER_PERMISSIONS)


def test_a_permission_less_is_refused_by_name(as_runner: Stack) -> None:
    """Each permission is asked for: a method that needs it is refused without it, and is not with it."""
    with httpx.Client(
        base_url=as_runner.url, headers={"Authorization": f"Bearer {os.environ['RUNNER_TOKEN']}"}, timeout=120
    ) as http:
        for permission in RUNNER_PERMISSIONS:
            chosen = next(method for method in services.all_methods() if permission in needs.of(method.id))
            path = _PLACE.sub(lambda place: _filled(place, as_runner.project), chosen.path)
            assert http.request(chosen.http, path, json={}).status_code != 403, permission
            set_permissions(as_runner, tuple(name for name in RUNNER_PERMISSIONS if name != permission))
            refused = http.request(chosen.http, path, json={})
            set_permissions(as_runner, RUNNER_PERMISSIONS)
            assert refused.status_code == 403, permission
            assert refused.json()["error"]["details"][0]["metadata"]["permission"] == permission


_PLACE = re.compile(r"\{(\w+)(?::\w+)?(?:=([^}]+))?\}")


def _filled(place: re.Match[str], project: str) -> str:
    name, alternatives = place[1], place[2]
    return (
        alternatives.split("|")[0] if alternatives else {"project": project, "location": "us-central1"}.get(name, "1")
    )
