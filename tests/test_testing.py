"""`with emulator() as e:` and the pytest plugin, as people use them in their own tests."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import runner
from runner.testing import emulator

TEST = """
import runner

def test_tuning(tuning_emulator, tmp_path):
    data = tmp_path / "train.jsonl"
    data.write_text("".join(f'{{"prompt": "What is {n}?", "completion": "It is {n}."}}\\n' for n in range(12)))
    report = runner.check(str(data), base_model="meta/llama3_1@llama-3.1-8b-instruct")
    assert not report.errors
    assert runner.list_jobs() == []

def test_session(tuning_session, tuning_emulator):
    assert tuning_session.environment.project == tuning_emulator.project
    assert runner.list_jobs(session=tuning_session) == []
"""


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RUNNER_STATE_DIR", str(tmp_path / "of-the-user"))
    monkeypatch.setenv("RUNNER_PROJECT", "somewhere-else")


def test_inside_everything_works_in_the_emulator_and_afterwards_nothing_is_left(tmp_path: Path) -> None:
    before = dict(os.environ)
    started = time.monotonic()
    with emulator(faults=("tuningJobs.list:status=503,times=1",)) as running:
        took = time.monotonic() - started
        directory = running.directory
        assert runner.list_jobs() == []
        with runner.connect() as session:
            assert session.environment.project == running.project
            assert session.environment.target.free
        done = subprocess.run(
            [sys.executable, "-m", "runner", "jobs", "ls", "--json"], capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == "[]"
        assert directory.is_dir()
    assert took < 60
    assert dict(os.environ) == before
    assert not directory.exists()
    assert not (tmp_path / "of-the-user").exists()


def test_the_plugin_gives_fixtures(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(TEST)
    # An installed package is found by its entry point; this checkout need not be installed.
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--strict-markers", str(tmp_path)]
    listed = subprocess.run([*command, "--fixtures"], capture_output=True, text=True, check=False)
    if "tuning_emulator" not in listed.stdout:
        command[4:4] = ["-p", "runner.testing.plugin"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert "2 passed" in done.stdout, done.stdout + done.stderr
