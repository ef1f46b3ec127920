"""The steps of the shipped pipelines, run as they stand in a clean clone, with the engine and an emulator.

Stand-ins only for what cannot be had here: those of the clone, the download of the engine, and Google's provider
(`tests.infra.engine_plugins`).
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from runner.emulator.server import EmulatorServer
from runner.emulator.settings import EmulatorSettings
from tests.infra.clean_clone import Clone
from tests.infra.test_embedded_stacks import Emulator
from tests.infra.test_engine_alone import plugins
from tests.infra.test_engine_failures import ROOT, needs_engine


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Clone]:
    with EmulatorServer(EmulatorSettings(directory=tmp_path / "emulator", stand_in="tiny")) as server:
        made = Clone(tmp_path, path=plugins(tmp_path / "plugins"))
        file = made.folder / "Pulumi.local.yaml"
        file.write_text(file.read_text().replace("http://127.0.0.1:8085", server.url))
        (tmp_path / "state").mkdir()
        made.variables |= {
            "PULUMI_BACKEND_URL": f"file://{tmp_path / 'state'}",
            "PULUMI_CONFIG_PASSPHRASE": "test",
            "STACK": "local",
        }
        yield made


@pytest.mark.engine
@needs_engine
def test_cloud_build_previews_deploys_and_looks_for_drift(clone: Clone) -> None:
    build: dict[str, Any] = yaml.safe_load((ROOT / "deploy/cloudbuild.yaml").read_text())
    (step,) = build["steps"]
    assert step["args"][0] == "-ceu"
    script = step["args"][1].replace("$$", "$")

    def run(verb: str, branch: str = "main") -> subprocess.CompletedProcess[str]:
        return clone.run(script, "-eu", VERB=verb, BRANCH=branch)

    refused = run("up", "somebody/branch")
    assert (refused.returncode, refused.stderr) == (1, "only main is deployed\n")
    first = run("preview", "somebody/branch")  # nothing is there yet
    assert first.returncode == 0, first.stderr
    assert "to create" in first.stdout
    up = run("up")
    assert up.returncode == 0, up.stderr
    drift = run("drift")
    assert drift.returncode == 0, drift.stderr
    file = clone.folder / "Pulumi.local.yaml"
    file.write_text(file.read_text() + "  open-model-tuning:softDeleteDays: 14\n")
    found = run("drift")
    assert found.returncode == 1
    assert "stack local would change" in found.stderr


@pytest.mark.engine
@needs_engine
def test_gitlab_previews_and_deploys(clone: Clone, tmp_path: Path) -> None:
    jobs: dict[str, Any] = yaml.safe_load((ROOT / "deploy/gitlab-ci.yml").read_text())
    before = jobs[".infra"]["before_script"]

    def run(job: str) -> subprocess.CompletedProcess[str]:
        text = "\n".join([*before, *jobs[job]["script"]]).replace("/tmp/", f"{tmp_path}/")
        given = {"GOOGLE_PROVIDER": "projects/1/x", "GOOGLE_ACCOUNT": "a@b", "GOOGLE_ID_TOKEN": "token"}
        return clone.run(text, **given)

    preview = run("infra-preview")
    assert preview.returncode == 0, preview.stderr
    assert json.loads((clone.folder / "counts.json").read_text())["create"] > 40
    up = run("infra-up")
    assert up.returncode == 0, up.stdout + up.stderr
    again = run("infra-preview")
    assert json.loads((clone.folder / "counts.json").read_text()) == {"create": 0, "update": 0, "delete": 0}, (
        again.stderr
    )
    drift = run("infra-drift")
    assert drift.returncode == 0, drift.stdout


@pytest.mark.engine
@needs_engine
def test_the_kubernetes_operator_installs_refreshes_and_deploys(clone: Clone, tmp_path: Path) -> None:
    """What the agent of the operator runs for the object, with its stack's file but for the address of the emulator."""
    _, stack = yaml.safe_load_all((ROOT / "deploy/pulumi-kubernetes-operator/stack.yaml").read_text())
    spec = stack["spec"]
    local = yaml.safe_load((clone.folder / "Pulumi.local.yaml").read_text())["config"]
    file = clone.folder / f"Pulumi.{spec['stack']}.yaml"
    body = yaml.safe_load(file.read_text())
    there = Emulator(local["open-model-tuning:emulator"])
    for key in [*body["config"]["open-model-tuning:kmsKeys"], body["config"]["open-model-tuning:stateKey"]]:
        there.make_key(key)
    there.make_bucket(body["config"]["open-model-tuning:stateBucket"], body["config"]["gcp:region"])
    there.client.close()
    body["config"]["open-model-tuning:emulator"] = local["open-model-tuning:emulator"]
    file.write_text(yaml.safe_dump(body))
    refresh = "--refresh" if spec["refresh"] else ""
    script = f"""
        cd {spec["repoDir"]}
        pulumi install --non-interactive
        pulumi stack select --create {spec["stack"]} --non-interactive
        pulumi up --yes --non-interactive --stack {spec["stack"]} {refresh}
        pulumi up --yes --non-interactive --stack {spec["stack"]} {refresh} --expect-no-changes
    """
    done = clone.run(script)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "python -m pip install -r requirements.txt" in clone.calls
    assert f"python3 -m venv {clone.folder / '.venv'}" in clone.calls


def test_pulumi_install_finds_what_the_program_needs() -> None:
    """The Kubernetes operator's agent calls it in a fresh clone: it installs the requirements beside the program."""
    program = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())
    folder = ROOT / program["main"]
    lines = [line for line in (folder / "requirements.txt").read_text().splitlines() if not line.startswith("#")]
    (included,) = lines
    locked = (folder / included.removeprefix("-r ").strip()).read_text()
    for package in ("pulumi==", "pulumi-gcp==", "httpx==", "pyyaml=="):
        assert f"\n{package}" in locked
    assert "--hash=sha256:" in locked
    assert program["runtime"]["options"]["virtualenv"] == ".venv"
