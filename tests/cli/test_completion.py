"""Completion: fast, never waiting for a service, and with the ids that commands have shown."""

from __future__ import annotations

import json
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from runner.cli.main import root
from runner.cli.reference import walk
from tests.cli.invocation import CommandLine, process
from tests.provisioning import Provisioned

ROOT = Path(__file__).parents[2]
_SECONDS = 0.15
"""What a tab may take, Python's own start included."""


def _completed(*words: str, language: str = "bash") -> list[str]:
    line = " ".join(words)
    joined = "\n".join(words) if language == "powershell" else line
    outcome = process(_RUNNER_COMPLETE=f"{language}_complete", COMP_WORDS=joined, COMP_CWORD=str(len(words) - 1))
    assert outcome.err == "", outcome.err
    lines = [line for line in outcome.out.splitlines() if line]
    return [line.partition(",")[2] for line in lines] if language == "bash" else lines


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
def test_each_shell_has_a_script(shell: str, run: CommandLine, tmp_path: Path) -> None:
    script = run("completion", shell)
    assert script.code == 0
    assert "_RUNNER_COMPLETE" in script.out
    program = {"powershell": "pwsh"}.get(shell, shell)
    if shutil.which(program) and shell != "powershell":
        path = tmp_path / "script"
        path.write_text(script.out)
        subprocess.run([program, "-n", str(path)], check=True)


def test_ids_and_names_are_those_that_were_shown(
    run: CommandLine, in_project: Provisioned, dataset: Path, state_directory: Path
) -> None:
    words = ("--model", "meta/llama3_1@llama-3.1-8b-instruct", "--train", str(dataset), "--name", "tone")
    job = run("jobs", "submit", *words, "--yes", "-q").out.strip()
    assert run("jobs", "ls").code == 0
    assert set(_completed("runner", "jobs", "show", "")) == {"latest", job, "tone"}
    assert _completed("runner", "jobs", "show", job[:5]) == [job]
    assert _completed("runner", "jobs", "show", "to", language="powershell")[0].startswith("tone\t")
    body = json.loads((state_directory / "names.json").read_text())
    assert body["target"].startswith(in_project.project)
    assert run("jobs", "cancel", job, "--yes").code == 0


def test_what_this_machine_knows_itself() -> None:
    assert "meta/llama3_1@llama-3.1-8b-instruct" in _completed("runner", "estimate", "x", "--model", "meta/llama3_1")
    assert _completed("runner", "jobs", "ls", "--state", "fa") == ["failed"]
    assert {"emulator", "google"} <= set(_completed("runner", "use", ""))
    assert "over-length" in _completed("runner", "explain", "over")
    assert "--json" in _completed("runner", "jobs", "ls", "--js")


def test_whatever_names_a_job_an_endpoint_or_a_context_completes() -> None:
    def names(parameter: click.Parameter) -> bool:
        said = getattr(parameter, "help", None) or ""
        return bool(
            re.match("JOB|ENDPOINT", parameter.metavar or "") or re.match("(Existing e|E)ndpoint|Context", said)
        )

    silent = [
        f"{path} {parameter.name}"
        for path, command, _ in walk(root, None, "runner")
        for parameter in command.params
        if names(parameter) and parameter._custom_shell_complete is None
    ]
    assert silent == []


def test_commands_complete_without_being_imported() -> None:
    """A group of 30 commands takes a tab no longer than a command does."""
    assert _completed("runner", "jo") == ["jobs"]
    code = (
        "import sys; from runner.cli.main import root; from click.shell_completion import ShellComplete as S; "
        "[item.value for item in S(root, {}, 'runner', 'X').get_completions([], '')]; "
        "print([name for name in sys.modules if name.startswith('runner.cli.jobs')])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


def test_a_tab_does_not_wait_for_a_service(state_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing answers at the address, and the names are old."""
    monkeypatch.setenv("RUNNER_VERTEX_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("RUNNER_PROJECT", "p")
    spent: list[float] = []
    while len(spent) < 5 or (min(spent) >= _SECONDS and len(spent) < 20):  # a busy machine slows the processor too
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert _completed("runner", "jobs", "show", "") == []
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    # Seconds of the processor: what a loaded machine adds is not the tab's.
    assert min(spent) < _SECONDS, spent
