"""Fixtures of the command line's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.invocation import CommandLine
from tests.provisioning import Provisioned


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, state_directory: Path) -> CommandLine:
    """Runs command lines in this process, with an empty state directory and no terminal."""
    monkeypatch.delenv("COLUMNS", raising=False)
    return CommandLine(capsys, monkeypatch)


@pytest.fixture
def in_project(project: Provisioned, monkeypatch: pytest.MonkeyPatch) -> Provisioned:
    """A provisioned project that command lines work in without further options."""
    variables = {
        "RUNNER_PROJECT": project.project,
        "RUNNER_PROJECT_NUMBER": project.number,
        "RUNNER_LOCATION": project.location,
        "RUNNER_DATASETS_BUCKET": project.datasets,
        "RUNNER_IMAGES_BUCKET": project.images,
        "RUNNER_OUTPUTS_BUCKET": project.outputs,
        "RUNNER_VERTEX_URL": project.url,
        "RUNNER_STORAGE_URL": project.url,
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return project


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A small sound training file."""
    path = tmp_path / "train.jsonl"
    lines = [f'{{"prompt": "What is number {number}?", "completion": "It is {number}."}}\n' for number in range(12)]
    path.write_text("".join(lines))
    return path
