"""Which stack a verb acts on: one that was named, or is in the current folder. Its mistakes are told first, by line."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from infra.stack_files import configuration, schema
from runner.errors import ConfigurationError
from runner.infrastructure import make_project
from tests.cli.invocation import process
from tests.infra.test_automation import ROOT, automation

OFFLINE = ("graph", "iam", "doctor", "bootstrap")
ENGINE = ("preview", "up", "refresh", "destroy", "outputs")
EVERY = [*((verb,) for verb in (*OFFLINE, *ENGINE)), *((verb, "--embedded") for verb in ENGINE)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, empty, on a machine without an engine."""
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    found = tmp_path / "folder"
    found.mkdir()
    monkeypatch.chdir(found)
    return found


def refused(*words: str) -> dict[str, Any]:
    """Run a verb for a stack that it cannot use; return the error."""
    error: dict[str, Any] = automation(*words, "--confirmed")["error"]
    assert error["code"] == "configuration"
    return error


@pytest.mark.parametrize("words", EVERY, ids=" ".join)
def test_no_stack_is_used_that_is_neither_named_nor_here(words: tuple[str, ...], folder: Path) -> None:
    error = refused(*words, "--project", "acme-ml")
    assert error["message"] == "there is no Pulumi.yaml in this folder"
    assert error["hint"].startswith(
        "`runner infra init . --stack dev` writes one, another folder is named by --directory"
    )
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("words", [words for words in EVERY if words != ("doctor",)], ids=" ".join)
def test_a_name_that_no_stack_can_have_is_the_mistake(words: tuple[str, ...], folder: Path) -> None:
    make_project(folder)
    assert "'../x' cannot name a stack" in refused(*words, "--stack", "../x", "--directory", ".")["message"]


@pytest.mark.parametrize("words", EVERY, ids=" ".join)
def test_a_project_of_something_else_is_left_alone(words: tuple[str, ...], folder: Path) -> None:
    (folder / "Pulumi.yaml").write_text("name: website\nruntime: python\n")
    (folder / "Pulumi.dev.yaml").write_text("config:\n  gcp:project: acme-website\n")
    assert "is of the project 'website', not of open-model-tuning" in refused(*words)["message"]
    assert "is of the project 'website'" in refused(*words, "--directory", str(folder))["message"]


@pytest.mark.parametrize("verb", ENGINE)
def test_the_engine_runs_the_program_of_a_folder_only_where_the_folder_is_named(verb: str, folder: Path) -> None:
    make_project(folder)
    (folder / "Pulumi.dev.yaml").write_text("config:\n  gcp:project: acme-ml\n")
    assert refused(verb)["hint"] == "add `--directory .` if the program is yours"
    assert automation(verb, "--directory", ".", "--confirmed")["error"]["code"] == "engine_missing"
    assert automation("graph")["result"]["graph"], "what runs nothing of it needs no name"


def wrong_everywhere() -> str:
    """Return a stack file with a wrong value for every setting, each on a line of its own."""
    lines = ["# first line", "config:", "  gcp:project: My_Project", "  gcp:region: mars", "  gcp:zone: x"]
    lines += [f"  open-model-tuning:{key}: '!'" for key in schema()]
    return "\n".join([*lines, "  open-model-tuning:labells: x", ""])


@pytest.mark.parametrize("words", EVERY, ids=" ".join)
def test_every_mistake_is_told_with_its_line_before_anything_is_missed(words: tuple[str, ...], folder: Path) -> None:
    text = wrong_everywhere()
    make_project(folder)
    (folder / "Pulumi.dev.yaml").write_text(text)
    if words == ("doctor",):
        checks = automation(*words)["result"]["checks"]
        problems = next(item["detail"] for item in checks if item["check"] == "stack dev")
        assert "Pulumi.dev.yaml:3: gcp:project is 'My_Project'" in problems
        return
    if words == ("bootstrap",):  # which needs the place only, and brings the file to it
        (folder / "Pulumi.dev.yaml").write_text("config:\n  gcp:region: mars\n")
        assert refused(*words, "--project", "acme-ml")["message"].startswith("Pulumi.dev.yaml:2: gcp:region is 'mars'")
        return
    error = refused(*words)
    for number, line in enumerate(text.splitlines(), 1):
        key = line.strip().rpartition(": ")[0]
        if ":" in key and not ("--embedded" in words and key.endswith(":emulator")):
            assert any(item.startswith(f"Pulumi.dev.yaml:{number}: {key} ") for item in error["problems"]), key
    assert all(problem in error["message"] for problem in error["problems"])


def test_what_the_command_line_says_is_not_blamed_on_the_file(folder: Path) -> None:
    make_project(folder)
    (folder / "Pulumi.dev.yaml").write_text("config:\n  gcp:project: acme-ml\n")
    assert refused("graph", "--location", "mars")["problems"][0].startswith("gcp:region is 'mars'")
    (folder / "Pulumi.dev.yaml").write_text("config:\n  gcp:project:\n  gcp:region: us-central1\n")
    assert "gcp:project is not set" in refused("graph")["message"]


def test_a_setting_that_is_there_twice_is_a_mistake(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Pulumi.yaml", tmp_path)
    text = "config:\n  gcp:project: acme-ml\n  gcp:region: us-central1\n  gcp:project: acme-other\n"
    (tmp_path / "Pulumi.dev.yaml").write_text(text)
    with pytest.raises(ConfigurationError, match="gcp:project is there twice, in lines 2 and 4"):
        configuration("dev", tmp_path)


def test_an_emulator_that_does_not_run_is_missed_after_the_stacks_mistakes(tmp_path: Path) -> None:
    make_project(tmp_path)
    (tmp_path / "Pulumi.dev.yaml").write_text("config:\n  gcp:project: My_Project\n")
    command = ("infra", "preview", "--embedded", "--directory", str(tmp_path), "--json")
    assert process(*command).error["code"] == "configuration"
    (tmp_path / "Pulumi.dev.yaml").write_text("config:\n  gcp:project: acme-ml\n")
    assert process(*command).error["code"] == "unreachable"
    assert "no Pulumi.-x.yaml" in process(*command, "--stack", "-x").error["message"]
