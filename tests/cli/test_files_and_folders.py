"""A folder for a file, a file for a folder, a path that is not there: one wording, whichever command is asked."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from runner.cli.main import root
from runner.cli.values import AnyPath, DataFile, LocalPath
from tests.cli.invocation import CommandLine

MODEL = "qwen/qwen3@qwen3-32b"
READ: dict[str, str] = {
    "init --data": "init new --yes --data {}",
    "data check training": "data check {}",
    "data check --validation": "data check sound.jsonl --validation {}",
    "data stats training": "data stats {}",
    "data stats --validation": "data stats sound.jsonl --validation {}",
    "data preview path": f"data preview {{}} --model {MODEL}",
    "data report training": "data report {} --html page.html",
    "data report --validation": "data report sound.jsonl --validation {} --html page.html",
    "data fix path": "data fix {} --output fixed.jsonl",
    "data split path": "data split {} --training a.jsonl --validation b.jsonl",
    "data convert path": "data convert {} --output made.jsonl",
    "data upload training": "data upload {}",
    "data upload --validation": "data upload sound.jsonl --validation {}",
    "estimate training": f"estimate {{}} --model {MODEL}",
    "jobs submit --train": f"jobs submit --train {{}} --model {MODEL}",
    "jobs submit --validation": f"jobs submit --train sound.jsonl --validation {{}} --model {MODEL}",
    "jobs why --train": "jobs why latest --train {}",
    "apply saved": "apply {}",
    "bill --billed": "bill --billed {}",
    "predict --instances": "predict --endpoint 1 --instances {}",
    "predict --file": "predict --endpoint 1 --file {}",
    "batch source": "batch {} --output answers.jsonl --endpoint 1",
    "eval dataset": "eval {} --endpoint 1",
    "chat --resume": "chat --endpoint 1 --resume {}",
    "chat --replay": "chat --endpoint 1 --replay {}",
    "endpoints check --golden": "endpoints check 1 --golden {}",
    "endpoints deploy --check": "endpoints deploy 1 --check {} --yes",
    "emulator start --dedicated": "emulator start --dedicated {0} {0}",
}
"""What is read: by each argument or option, with a line that gives it."""
WRITTEN: dict[str, str] = {
    "data report --html": "data report sound.jsonl --html {}",
    "data fix --output": "data fix sound.jsonl --output {}",
    "data split --training": "data split sound.jsonl --training {} --validation b.jsonl",
    "data split --validation": "data split sound.jsonl --training a.jsonl --validation {}",
    "data convert --output": "data convert sound.jsonl --output {}",
    "jobs metrics --to": "jobs metrics latest --to {}",
    "plan --out": "plan -f jobs --out {}",
    "batch --output": "batch sound.jsonl --output {} --endpoint 1",
    "eval --report": "eval sound.jsonl --endpoint 1 --report {}",
    "chat --save": "chat --endpoint 1 --save {}",
    "emulator key --to": "emulator key a@b.example.com --to {}",
}
FOLDERS: dict[str, str] = {
    "init directory": "init {} --yes",
    "infra init folder": "infra init {}",
    "checkpoints download --to": "checkpoints download latest --to {}",
    "checkpoints export --to": "checkpoints export latest --to {}",
    "data check --tokenizer": "data check sound.jsonl --tokenizer {}",
    "data stats --tokenizer": "data stats sound.jsonl --tokenizer {}",
    "data preview --tokenizer": "data preview sound.jsonl --tokenizer {}",
    "data report --tokenizer": "data report sound.jsonl --html page.html --tokenizer {}",
    "data upload --tokenizer": "data upload sound.jsonl --tokenizer {}",
    "estimate --tokenizer": f"estimate sound.jsonl --model {MODEL} --tokenizer {{}}",
    "jobs submit --tokenizer": f"jobs submit --train sound.jsonl --model {MODEL} --tokenizer {{}}",
}
SHARED = ("--directory", "--filename")
"""Of `infra`, and manifests, which are files or folders."""


def parameters(command: click.Command, context: click.Context) -> Iterator[str]:
    """Yield every argument and option that is a path."""
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            for found in parameters(child, click.Context(child, parent=context)):
                yield f"{name} {found}"
        return
    for parameter in command.params:
        if isinstance(parameter.type, click.Path | LocalPath | AnyPath | DataFile):
            yield parameter.opts[-1]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "folder").mkdir()
    (tmp_path / "jobs").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "sound.jsonl").write_text('{"prompt": "a", "completion": "b"}\n' * 12)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_path_of_the_command_line_is_in_the_tables() -> None:
    found = {name for name in parameters(root, click.Context(root)) if not name.endswith(SHARED)}
    assert found == {*READ, *WRITTEN, *FOLDERS}


@pytest.mark.parametrize("name", [*READ, *WRITTEN])
def test_a_folder_for_a_file(name: str, run: CommandLine, here: Path) -> None:
    line = {**READ, **WRITTEN}[name].format("folder").split()
    outcome = run(*line, "--json")
    assert outcome.code == 2, outcome.err
    assert "folder: a folder, not a file" in outcome.error["message"]
    assert sorted(item.name for item in here.iterdir()) == ["file", "folder", "jobs", "sound.jsonl"]


@pytest.mark.parametrize("name", READ)
def test_a_file_that_is_not_there(name: str, run: CommandLine, here: Path) -> None:
    outcome = run(*READ[name].format("absent.jsonl").split(), "--json")
    assert outcome.code == 2, outcome.err
    assert "absent.jsonl: no such file" in outcome.error["message"]


@pytest.mark.parametrize("name", FOLDERS)
def test_a_file_for_a_folder(name: str, run: CommandLine, here: Path) -> None:
    outcome = run(*FOLDERS[name].format("file").split(), "--json")
    assert outcome.code == 2, outcome.err
    assert "file: a file, not a folder" in outcome.error["message"]


@pytest.mark.parametrize("name", [*READ, *WRITTEN, *FOLDERS])
def test_the_home_of_nobody(name: str, run: CommandLine, here: Path) -> None:
    """A shell leaves `~nobody` as it is: nothing gets that name."""
    outcome = run(*{**READ, **WRITTEN, **FOLDERS}[name].format("~no-such-user/x").split(), "--json")
    assert outcome.code == 2, outcome.err
    assert "nobody called 'no-such-user' has a home folder here" in outcome.error["message"]
    assert not (here / "~no-such-user").exists()


def test_the_home_folder(run: CommandLine, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(here))
    assert run("data", "check", "~/sound.jsonl", "--json").code == 0
    (here / "~x.jsonl").write_bytes((here / "sound.jsonl").read_bytes())
    assert run("data", "check", "~x.jsonl", "--json").code == 0, "a name of its own"


@pytest.mark.parametrize("closed", [0, 1, 2])
def test_standard_streams_that_are_closed(closed: int, here: Path) -> None:
    line = [sys.executable, "-m", "runner", "data", "check", "sound.jsonl"]
    shell = f'exec "$@" {closed}>&-'
    done = subprocess.run(["sh", "-c", shell, "sh", *line], env={**os.environ}, capture_output=True, check=False)
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False), done.stderr
