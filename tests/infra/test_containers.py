"""The container, the devcontainer and the action of the emulator, as far as they go without a container engine."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CONTAINER = ROOT / "deploy" / "emulator" / "Containerfile"
ACTION = ROOT / ".github" / "actions" / "emulator" / "action.yml"
DEVCONTAINER = ROOT / ".devcontainer" / "devcontainer.json"


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"^#.*\n", "", CONTAINER.read_text("utf-8"), flags=re.MULTILINE).replace("\\\n", " ")
    return [
        (word, rest.strip()) for word, _, rest in (line.partition(" ") for line in text.splitlines() if line.strip())
    ]


def one(name: str) -> str:
    (found,) = [rest for word, rest in instructions() if word == name]
    return found


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """`runner` as an installation has it."""
    place = tmp_path / "emulator" / "bin"
    place.mkdir(parents=True)
    (place / "runner").write_text(f'#!/bin/sh\nexec {sys.executable} -P -m runner "$@"\n')
    (place / "runner").chmod(0o755)
    (place / "python").symlink_to(sys.executable)
    return place


def test_the_container_is_careful() -> None:
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", one("USER")), "a user by number, and not root"
    for image in [rest.split()[0] for word, rest in instructions() if word == "FROM"]:
        assert re.search(r":\d", image), "a version, not latest"
    for command in [rest for word, rest in instructions() if word == "RUN"]:
        for part in command.split("&&"):
            assert "pip install" not in part or "--require-hashes" in part or "--no-deps" in part, part
    for source in [rest.split()[0] for word, rest in instructions() if word == "COPY" and "--from" not in rest]:
        assert (ROOT / source).exists()
    for lock in re.findall(r"-r (\S+)", CONTAINER.read_text("utf-8")):
        assert (ROOT / lock).is_file()
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {".git", "tests"} <= set(ignored)


def test_its_command_starts_and_its_health_check_answers(tmp_path: Path, program: Path) -> None:
    """With the variables of the image, a token, a state directory that may be written, and nothing else that may."""
    state = tmp_path / "state"
    state.mkdir()
    variables = {
        **os.environ,
        "PATH": f"{program}:{os.environ['PATH']}",
        "RUNNER_STATE_DIR": str(state),
        "RUNNER_EMULATOR_TOKEN": "a-token",
        "RUNNER_EMULATOR_STAND_IN": "tiny",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = json.loads(one("ENTRYPOINT"))
    command[command.index("--port") + 1] = "0"
    health = json.loads(one("HEALTHCHECK").partition("CMD ")[2])
    assert subprocess.run(health, env=variables, capture_output=True, check=False).returncode == 69, "before the start"
    with subprocess.Popen(command, env=variables, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            assert "listening on" in server.stderr.readline()
            done = subprocess.run(health, env=variables, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
        finally:
            server.terminate()
            server.wait(30)
    without = {name: value for name, value in variables.items() if name != "RUNNER_EMULATOR_TOKEN"}
    refused = subprocess.run(command, env=without, capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert "token" in refused.stderr


def test_the_devcontainer_runs_commands_that_exist() -> None:
    body: dict[str, Any] = json.loads(DEVCONTAINER.read_text("utf-8"))
    assert re.search(r":\d", body["image"])
    usage = (ROOT / "dev.py").read_text("utf-8")
    for word in shlex.split(body["postCreateCommand"])[2:]:
        assert f'"{word}"' in usage
    assert body["forwardPorts"] == [8085]


def test_the_action_starts_an_emulator_and_sets_its_variables(tmp_path: Path, program: Path) -> None:
    body = yaml.safe_load(ACTION.read_text("utf-8"))
    install, start = body["runs"]["steps"]
    for step in (install, start):
        assert "${{" not in step["run"], "no value becomes a part of a script"
    if shutil.which("shellcheck"):
        script = tmp_path / "script"
        script.write_text("#!/bin/bash\n" + install["run"] + start["run"])
        subprocess.run(["shellcheck", str(script)], check=True)
    variables = {
        **os.environ,
        "RUNNER_TEMP": str(tmp_path),
        "GITHUB_OUTPUT": str(tmp_path / "output"),
        "GITHUB_ENV": str(tmp_path / "env"),
        "RUNNER_STATE_DIR": str(tmp_path / "state"),
        "PROJECT": "ci-project",
        "LOCATION": "us-central1",
    }
    try:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", start["run"]], env=variables, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        document = (tmp_path / "output").read_text().strip().partition("=")[2]
        assert json.loads(Path(document).read_text())["project"] == "ci-project"
        made = dict(line.partition("=")[::2] for line in (tmp_path / "env").read_text().splitlines())
        assert made["RUNNER_ENVIRONMENT"] == document
        listed = subprocess.run(
            [str(program / "runner"), "jobs", "ls", "--json"], env={**variables, **made}, capture_output=True, text=True
        )
        assert listed.stdout.strip() == "[]", listed.stderr
    finally:
        subprocess.run([str(program / "runner"), "emulator", "stop"], env=variables, check=False, capture_output=True)
