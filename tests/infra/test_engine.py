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

from infra.embedded import apply
from runner.emulator.server import EmulatorServer

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(
        shutil.which("pulumi") is None or shutil.which("pulumi-language-python") is None,
        reason="needs all of Pulumi: `pulumi` and `pulumi-language-python` on PATH",
    ),
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
        assert (
            httpx.get(f"{emulator.url}/storage/v1/b/{project}-{kind}", trust_env=False, timeout=120).status_code == 404
        )


def test_with_and_without_the_engine_the_same_is_made(emulator: EmulatorServer, tmp_path: Path) -> None:
    with_engine, without = f"engine-a-{os.getpid()}", f"engine-b-{os.getpid()}"
    engine = Engine(tmp_path, emulator.url, with_engine)
    engine.run("stack", "init", "local")
    engine.run("up", "--yes", "--stack", "local")
    apply(emulator.url, project=without, state=tmp_path / "state.json")
    assert _made(emulator.url, with_engine) == _made(emulator.url, without)
    engine.run("destroy", "--yes", "--stack", "local")


def _made(url: str, project: str) -> Any:
    """Return what a project has, without what differs between any two: names, numbers, times."""

    def get(path: str, method: str = "GET") -> Any:
        answer = httpx.request(
            method, f"{url}{path}", json={} if method == "POST" else None, trust_env=False, timeout=120
        )
        assert answer.is_success, answer.text
        return answer.json()

    number = str(get(f"/v1/projects/{project}")["projectNumber"])
    volatile = {"etag", "generation", "metageneration", "timeCreated", "updated", "id", "selfLink"}
    found: dict[str, Any] = {}
    for kind in ("datasets", "images", "outputs", "contract"):
        bucket = get(f"/storage/v1/b/{project}-{kind}")
        bucket["softDeletePolicy"].pop("effectiveTime", None)
        for access in ("bucketPolicyOnly", "uniformBucketLevelAccess"):
            bucket["iamConfiguration"].get(access, {}).pop("lockedTime", None)
        found[kind] = {key: value for key, value in bucket.items() if key not in volatile}
        policy = get(f"/storage/v1/b/{project}-{kind}/iam")
        found[f"{kind}-iam"] = sorted((item["role"], sorted(item["members"])) for item in policy["bindings"])
    policy = get(f"/v1/projects/{project}:getIamPolicy", "POST")
    found["iam"] = sorted((item["role"], sorted(item["members"])) for item in policy["bindings"])
    services = get(f"/v1/projects/{project}/services?filter=state:ENABLED&pageSize=200")["services"]
    found["services"] = sorted(item["name"].rsplit("/", 1)[-1] for item in services)
    return json.loads(json.dumps(found).replace(project, "PROJECT").replace(number, "NUMBER"))
