"""The workflows for tuning jobs: their steps run here, as they stand, against the emulator."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from runner.cli.main import root
from runner.gcp.session import Session
from tests.cli.invocation import CommandLine
from tests.jobs.manifests.folder import Manifests, names_of

ROOT = Path(__file__).parents[3]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("jobs-*.yml"))
_COMMAND = re.compile(r"\.venv/bin/runner ([^\n|>&]*)")


def step(workflow: str, name: str) -> str:
    """Return the script of one step."""
    body: dict[str, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / f"{workflow}.yml").read_text())
    jobs = body["jobs"].values()
    (script,) = [item["run"] for job in jobs for item in job["steps"] if item.get("name") == name]
    return str(script)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_command_line_is_understood(path: Path) -> None:
    found = _COMMAND.findall(path.read_text())
    assert found
    for line in found:
        command: click.Command = root
        context, words = click.Context(root), shlex.split(line)
        while isinstance(command, click.Group):
            child = command.get_command(context, words.pop(0))
            assert child is not None, line
            command, context = child, click.Context(child, parent=context)
        with command.make_context(command.name, words) as parsed:
            assert parsed.params


@pytest.fixture
def repository(tmp_path: Path, manifests: Manifests) -> Path:
    """A checkout with manifests and the program where the workflows have it."""
    folder = tmp_path / "checkout"
    (folder / ".venv" / "bin").mkdir(parents=True)
    program = folder / ".venv" / "bin" / "runner"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m runner "$@"\n')
    program.chmod(0o755)
    shutil.move(manifests.folder, folder / "jobs")
    return folder


def run_step(repository: Path, script: str) -> tuple[int, str]:
    """Run a script as the runner of GitHub does; return its exit code and what it gave out."""
    for name in ("output", "summary"):
        (repository / name).write_text("")
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
        cwd=repository,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "GITHUB_OUTPUT": str(repository / "output"),
            "GITHUB_STEP_SUMMARY": str(repository / "summary"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, (repository / "output").read_text()


def test_pull_request_merge_and_night(idle: CommandLine, repository: Path, untrained: Session) -> None:
    written = Manifests(repository / "jobs")
    written.add("wrong", hyper="{epoch: 1}", spec="maxCost: 5")
    plan = step("jobs-plan", "Plan")
    assert run_step(repository, plan) == (0, "failed=true\n")
    assert "did you mean epochs?" in (repository / "plan.md").read_text()

    written.add("wrong", spec="maxCost: 5")
    assert run_step(repository, plan) == (0, "")
    report = (repository / "plan.md").read_text()
    assert "wrong" in report
    assert (repository / "summary").read_text() == report

    drift = step("jobs-drift", "Look")
    assert run_step(repository, drift) == (0, "status=2\n")
    apply = step("jobs-apply", "Apply")
    assert run_step(repository, apply.replace(" -f", " --quota 3 -f"))[0] == 0
    assert names_of(untrained) == ["wrong"]
    assert run_step(repository, drift) == (0, "status=0\n")
