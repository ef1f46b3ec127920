"""What is said on a machine where nothing is set."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from runner.environment import SETTINGS
from tests.cli.invocation import CommandLine
from tests.cli.test_commands import EVERY


def test_messages_name_no_option_that_there_is_not() -> None:
    options = {option for _, command in EVERY for parameter in command.params for option in parameter.opts}
    assert {setting.flag for setting in SETTINGS if setting.flag} <= options


def test_whoever_has_not_started_the_emulator_is_told_to(
    run: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("init", ".", "--yes").code == 0
    shutil.copy("jobs/tuning.yaml", "jobs/second.yaml")
    outcome = run("plan", "-f", "jobs", "--json")
    assert outcome.code == 1
    assert "runner emulator start && runner emulator provision" in outcome.error["hint"]
    problems = outcome.error["problems"]
    settings = [problem.split(" ")[0] for problem in problems if "jobs/" not in problem]
    assert settings == ["contract", "project:", "outputs"]
    [mistake] = [problem for problem in problems if "jobs/" in problem]
    assert "is the name of the job in" in mistake, "said once, and not of each manifest"
