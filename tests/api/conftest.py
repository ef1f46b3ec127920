"""Fixtures of the Python API's tests: a project, and a directory to work in with a small dataset."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.api import connection
from tests.cli.conftest import in_project
from tests.provisioning import Provisioned
from tests.wheel import installed, wheel

__all__ = ["in_project", "installed", "wheel"]

MODEL = "meta/llama3_1@llama-3.1-8b-instruct"


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with `train.jsonl` and `held_out.jsonl`."""
    folder = tmp_path / "work"
    folder.mkdir()
    for name, numbers in (("train", range(24)), ("held_out", range(24, 28))):
        lines = (f'{{"prompt": "What is number {i}?", "completion": "It is {i}."}}\n' for i in numbers)
        (folder / f"{name}.jsonl").write_text("".join(lines))
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def here(in_project: Provisioned, work: Path, state_directory: Path) -> Iterator[Provisioned]:
    """A provisioned project that the default connection works in."""
    connection.init()
    yield in_project
    connection.current().close()
