"""The idle guard's pass over an emulator, and what its function is built from."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from infra.idle_guard import source
from runner.emulator.server import EmulatorServer
from tests.provisioning import Provisioned

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(("port", "status"), [(None, 200), (9, 500)])
def test_the_function_alone_makes_a_pass(
    project: Provisioned, emulator: EmulatorServer, tmp_path: Path, port: int | None, status: int
) -> None:
    """Its archive elsewhere, with this checkout out of reach; where nothing answers it fails, and says so."""
    url = emulator.url if port is None else f"http://127.0.0.1:{port}"
    environment = {
        **os.environ,
        "RUNNER_PROJECT": project.project,
        "RUNNER_REGIONS": f"{project.location},europe-west4",
        "RUNNER_VERTEX_URL": url,
        "RUNNER_STORAGE_URL": url,
        "RUNNER_STATE_DIR": str(tmp_path / "state"),
    }
    archive = tmp_path / "function.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for name, path in source.files().items():
            file.write(path, name)
    unpacked = tmp_path / "function"
    with zipfile.ZipFile(archive) as file:
        file.extractall(unpacked)
    script = (
        "import sys\n"
        "sys.path.insert(0, '.')\n"
        "sys.meta_path[:] = [finder for finder in sys.meta_path if 'editable' not in repr(finder).lower()]\n"
        "import main\n"
        "from runner.serving import idle_guard\n"
        "assert idle_guard.__file__.startswith(sys.argv[1]), idle_guard.__file__\n"
        "answer = main.main(None)\n"
        "assert not [name for name in sys.modules if name.split('.')[0] in ('pulumi', 'infra', 'torch')]\n"
        "print(answer)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(unpacked)],
        cwd=unpacked,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    *said, answer = done.stdout.splitlines()
    assert answer.endswith(f"{status})")
    assert all("event" in json.loads(line) for line in said)
    assert (status == 500) == any(json.loads(line)["event"] == "error" for line in said)


def test_its_requirements_are_the_projects() -> None:
    lines = source.requirements().splitlines()
    assert lines[0].startswith("functions-framework")
    assert any(line.startswith("google-genai>=") for line in lines)
    assert not any(line.startswith(("click", "rich", "pulumi", "torch")) for line in lines)
