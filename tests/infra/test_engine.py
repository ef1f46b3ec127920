"""The real Pulumi engine and the real provider against a live emulator."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from runner.emulator.server import EmulatorServer

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(shutil.which("pulumi") is None, reason="needs the Pulumi engine: `pulumi` on PATH"),
]


class Engine:
    """A project directory of its own, whose stack points to the emulator of the test."""

    def __init__(self, directory: Path, url: str, project: str) -> None:
        self.directory = directory
        for name in ("infra", "runner", ".venv"):
            (directory / name).symlink_to(ROOT / name)
        shutil.copy(ROOT / "Pulumi.yaml", directory)
        stack: dict[str, Any] = yaml.safe_load((ROOT / "Pulumi.local.yaml").read_text("utf-8"))
        text = yaml.safe_dump(stack).replace("http://127.0.0.1:8085", url).replace("local-project", project)
        (directory / "Pulumi.local.yaml").write_text(text)
        (directory / "backend").mkdir()
        self.environment = {
            **os.environ,
            "PULUMI_BACKEND_URL": f"file://{directory / 'backend'}",
            "PULUMI_CONFIG_PASSPHRASE": "test",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_GCP_SKIP_REGION_VALIDATION": "true",
            "GOOGLE_OAUTH_ACCESS_TOKEN": "emulator",
        }

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            ["pulumi", *arguments, "--non-interactive"],
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def test_up_preview_refresh_and_destroy(emulator: EmulatorServer, tmp_path: Path) -> None:
    project = f"engine-{os.getpid()}"
    engine = Engine(tmp_path, emulator.url, project)
    engine.run("stack", "init", "local")
    engine.run("up", "--yes", "--stack", "local")
    document = json.loads(engine.run("stack", "output", "environment", "--json", "--stack", "local"))
    assert document["buckets"]["datasets"] == f"{project}-datasets"
    assert document["apiEndpoints"]["vertex"] == emulator.url
    engine.run("preview", "--expect-no-changes", "--stack", "local")
    engine.run("refresh", "--yes", "--expect-no-changes", "--stack", "local")
    engine.run("destroy", "--yes", "--stack", "local")
    for kind in ("datasets", "images", "outputs", "contract"):
        assert httpx.get(f"{emulator.url}/storage/v1/b/{project}-{kind}", trust_env=False).status_code == 404
