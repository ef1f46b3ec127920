"""The steps of the shipped pipelines, run as they stand in a clean clone, with the engine and an emulator.

Stand-ins only for what cannot be had here: packages of the system, the download of the engine, the installation of the
locked packages (this environment has them), and Google's provider (`tests.infra.engine_plugins`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from runner.emulator.server import EmulatorServer
from runner.emulator.settings import EmulatorSettings
from tests.infra.github_steps import PYTHON
from tests.infra.test_engine_alone import plugins
from tests.infra.test_engine_failures import ROOT, needs_engine


class Clone:
    """A clean clone whose local stack is in an emulator."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder / "clone"
        subprocess.run(["git", "clone", "-q", "--no-local", str(ROOT), str(self.folder)], check=True)
        file = self.folder / "Pulumi.local.yaml"
        file.write_text(file.read_text().replace("http://127.0.0.1:8085", url))
        stand_ins = folder / "stand-ins"
        stand_ins.mkdir()
        for name, text in {
            "apt-get": "#!/bin/sh\n",
            "curl": "#!/bin/sh\n",
            "python": PYTHON.format(python=sys.executable),
        }.items():
            (stand_ins / name).write_text(text)
            (stand_ins / name).chmod(0o755)
        (folder / "state").mkdir()
        self.variables = {
            **{key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
            "PATH": f"{stand_ins}:{plugins(folder / 'plugins')}",
            "HOME": str(folder),
            "PULUMI_BACKEND_URL": f"file://{folder / 'state'}",
            "PULUMI_CONFIG_PASSPHRASE": "test",
            "STACK": "local",
            "CI": "true",
        }

    def run(self, script: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-ceu", script],
            cwd=self.folder,
            env={**self.variables, **variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=400,
            stdin=subprocess.DEVNULL,
        )


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Clone]:
    with EmulatorServer(EmulatorSettings(directory=tmp_path / "emulator", stand_in="tiny")) as server:
        yield Clone(tmp_path, server.url)


@pytest.mark.engine
@needs_engine
def test_cloud_build_previews_deploys_and_looks_for_drift(clone: Clone) -> None:
    build: dict[str, Any] = yaml.safe_load((ROOT / "deploy/cloudbuild.yaml").read_text())
    (step,) = build["steps"]
    assert step["args"][0] == "-ceu"
    script = step["args"][1].replace("$$", "$")

    def run(verb: str, branch: str = "main") -> subprocess.CompletedProcess[str]:
        return clone.run(script, VERB=verb, BRANCH=branch)

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
