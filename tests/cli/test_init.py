"""From `runner init` to `runner plan` without an obstacle: what it writes works, and is never written over anything."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from runner.jobs.manifests import reading
from runner.testing import RunningEmulator, emulator
from tests.cli.invocation import CommandLine

ROOT = Path(__file__).parents[2]
_BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def running() -> Iterator[RunningEmulator]:
    with emulator() as found:
        yield found


@pytest.fixture
def here(running: RunningEmulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line of this process works in the emulator."""
    for name, value in running.variables.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--shape", "prompt-completion"),
        ("--model", "qwen/qwen3@qwen3-32b", "--mode", "FULL", "--max-cost", "100"),
        ("--data", "table.csv"),
    ],
)
def test_what_it_writes_can_be_planned(
    words: tuple[str, ...], run: CommandLine, here: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = "\n".join(f'"What is {number}?","It is {number}."' for number in range(20))
    (tmp_path / "table.csv").write_text(f"prompt,completion\n{rows}\n")
    made = run("init", "My Model", *words, "--yes", "--json")
    assert made.code == 0, made.err
    assert sorted(made.document["files"]) == sorted(
        str(path.relative_to(tmp_path / "My Model")) for path in (tmp_path / "My Model").rglob("*") if path.is_file()
    )
    monkeypatch.chdir(tmp_path / "My Model")
    assert run("data", "check", "jobs/data/train.jsonl").code == 0
    planned = run("plan", "-f", "jobs/", "--json")
    assert planned.code == 2, planned.err  # something would be done
    (job,) = planned.document["jobs"]
    assert (job["name"], job["action"]) == ("my-model", "create")
    assert not planned.document.get("findings")
    again = run("init", ".", "--yes")
    assert (again.code, "exists" in again.err) == (2, True)


def test_the_workflow_is_what_the_linters_want(run: CommandLine, tmp_path: Path, here: None) -> None:
    assert run("init", str(tmp_path / "new"), "--yes").code == 0
    workflow = tmp_path / "new" / ".github" / "workflows" / "tuning.yml"
    body = yaml.safe_load(workflow.read_text())
    for step in body["jobs"]["plan"]["steps"]:
        if "uses" in step:
            name, _, pin = step["uses"].partition("@")
            assert len(pin) == 40, name
            ours = (ROOT / ".github" / "workflows" / "tests.yml").read_text()
            assert step["uses"] in ours, "the same pin as our own workflows"
    commands = [step["run"] for step in body["jobs"]["plan"]["steps"] if "run" in step]
    assert any("runner plan -f jobs/" in command for command in commands)
    for linter, arguments in (("zizmor", ["-q", "--offline"]), ("actionlint", [])):
        program = shutil.which(linter, path=f"{_BIN}:/usr/bin:/usr/local/bin")
        if program:
            subprocess.run([program, *arguments, str(workflow)], check=True, capture_output=True)


@pytest.mark.parametrize("budget", ["0.00001", "1234567.89", "10,000,000"])
def test_a_budget_is_written_as_it_was_given(budget: str, run: CommandLine, tmp_path: Path) -> None:
    assert run("init", str(tmp_path / "new"), "--max-cost", budget, "--yes").code == 0
    loaded = reading.load([tmp_path / "new" / "jobs"])
    assert (loaded.problems, [job.max_cost for job in loaded.jobs]) == ([], [float(budget.replace(",", ""))])


def test_both_pipelines_run_the_same_commands(run: CommandLine, tmp_path: Path, here: None) -> None:
    for ci in ("github", "gitlab"):
        assert run("init", str(tmp_path / ci), "--ci", ci, "--yes").code == 0
    github = yaml.safe_load((tmp_path / "github" / ".github" / "workflows" / "tuning.yml").read_text())
    gitlab = yaml.safe_load((tmp_path / "gitlab" / ".gitlab-ci.yml").read_text())
    assert not (tmp_path / "gitlab" / ".github").exists()
    ours = [step["run"] for step in github["jobs"]["plan"]["steps"] if "run" in step]
    plain = [line.replace(' >> "$GITHUB_STEP_SUMMARY"', "").replace(" --report github", "") for line in ours]
    assert gitlab["plan"]["script"] == plain


@pytest.mark.parametrize("own", [None, "*.png binary\n"])
def test_a_checkout_on_windows_has_the_same_data(own: str | None, run: CommandLine, tmp_path: Path) -> None:
    """Git there turns line feeds into two characters, and other bytes are another dataset."""
    made = tmp_path / "made"
    made.mkdir()
    if own is not None:
        (made / ".gitattributes").write_text(own)
    outcome = run("init", str(made), "--yes", "--json")
    assert outcome.code == 0, outcome.err
    assert (".gitattributes" in outcome.document["files"]) is (own is None)
    if own is not None:
        assert (made / ".gitattributes").read_text() == own
        return
    git = ("git", "-c", "core.autocrlf=true", "-c", "user.name=somebody", "-c", "user.email=somebody@example.com")
    for words in (("init", "-q"), ("add", "-A"), ("commit", "-qm", "first")):
        subprocess.run([*git, "-C", str(made), *words], check=True, capture_output=True)
    subprocess.run([*git, "clone", "-q", str(made), str(tmp_path / "clone")], check=True)
    there = {path.relative_to(made): path.read_bytes() for path in made.rglob("*.jsonl")}
    assert len(there) == 2
    assert {path: (tmp_path / "clone" / path).read_bytes() for path in there} == there
    assert b"\r\n" in (tmp_path / "clone" / "README.md").read_bytes(), "this Git does as Git on Windows"


@pytest.mark.parametrize("name", ["2026-model", "9", "null", "true", "Größe", "日本", "a b", "x" * 39 + "--y", "__"])
def test_whatever_the_folder_is_called_its_manifest_is_sound(name: str, run: CommandLine, tmp_path: Path) -> None:
    assert run("init", str(tmp_path / name), "--yes").code == 0
    loaded = reading.load([tmp_path / name / "jobs"])
    assert (loaded.problems, len(loaded.jobs)) == ([], 1)


def test_data_that_is_not_there_leaves_nothing(run: CommandLine, tmp_path: Path) -> None:
    missing = run("init", str(tmp_path / "new"), "--data", "/no/such.csv", "--yes")
    assert (missing.code, "no such file" in missing.err) == (2, True)
    assert not (tmp_path / "new").exists()
    unknown = run("init", str(tmp_path / "new"), "--model", "nobody/nothing", "--yes")
    assert unknown.code == 2
    assert not (tmp_path / "new").exists()


def test_the_examples_that_name_no_bucket_can_be_planned(run: CommandLine, here: None) -> None:
    planned = run("plan", "-f", str(ROOT / "examples" / "jobs" / "sweep.yaml"), "--json")
    assert planned.code == 2, planned.err
    assert len(planned.document["jobs"]) == 5
    assert json.dumps(planned.document).count("my-bucket") == 0
