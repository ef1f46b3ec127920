"""Errors become exit codes in one place."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from runner.cli.commands import command
from runner.cli.main import root
from runner.cli.options import Invocation
from runner.errors import QuotaExceededError
from tests.cli.invocation import CommandLine, process
from tests.end_to_end.terminal import Terminal

ROOT = Path(__file__).parents[2]


@command(name="fails", examples=("runner fails",))
@click.argument("how")
@click.pass_obj
def fails(invocation: Invocation, how: str) -> None:
    """Fail in the way that is asked for."""
    if how == "quota":
        raise QuotaExceededError("all used up", status="RESOURCE_EXHAUSTED", http=429, hint="later")
    if how == "file":
        Path("taken").touch()
        Path("taken").mkdir()
    if how == "aside":
        Path(".named.x7").mkdir()
        Path(".named.x7").mkdir()
    if how == "interrupt":
        invocation.interrupted = "the job goes on"
        raise KeyboardInterrupt
    if how == "compiled":
        raise ValueError('Error building "model" validator:\n  KeyboardInterrupt: ')
    raise ZeroDivisionError("secret detail\nsecond line")


@pytest.fixture(autouse=True)
def failing_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(root.lazy, "fails", (f"{__name__}:fails", "Fail."))


def test_an_expected_failure_has_its_exit_code_and_a_hint(run: CommandLine) -> None:
    outcome = run("fails", "quota")

    assert (outcome.code, outcome.out, outcome.err) == (75, "", "error: all used up\nhint: later\n")


def test_the_same_failure_for_programs(run: CommandLine) -> None:
    outcome = run("fails", "quota", "--format", "json")

    assert (outcome.code, outcome.out) == (75, "")
    assert outcome.error == {
        "code": "quota_exceeded",
        "message": "all used up",
        "hint": "later",
        "status": "RESOURCE_EXHAUSTED",
        "http": 429,
    }


def test_debug_shows_where_an_expected_failure_came_from(run: CommandLine) -> None:
    outcome = run("fails", "quota", "--debug")

    assert "Traceback" in outcome.err
    assert outcome.err.endswith("error: all used up\nhint: later\n")


def test_a_bug_is_one_line_and_a_saved_traceback(
    run: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    outcome = run("fails", "bug")

    assert outcome.code == 70
    assert outcome.err.startswith("error: internal error: ZeroDivisionError: secret detail\nhint: ")
    assert "Traceback" not in outcome.err
    (saved,) = tmp_path.glob("runner-traceback-*.txt")
    assert str(saved) in outcome.err
    assert "ZeroDivisionError: secret detail" in saved.read_text()
    assert saved.stat().st_mode & 0o077 == 0


def test_ctrl_c_says_what_goes_on(run: CommandLine) -> None:
    outcome = run("fails", "interrupt")

    assert outcome.code == 130
    assert outcome.err.endswith("the job goes on\n")


@pytest.mark.parametrize(("how", "named"), [("file", "taken"), ("aside", "named")])
def test_a_path_in_the_way_is_named_not_a_word_of_the_line(
    how: str, named: str, run: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = run("fails", how, "--project", "named")

    assert outcome.code == 2
    assert outcome.err.startswith(f"error: cannot use {tmp_path / named}: File exists")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["jbos"], "no such command 'jbos'; did you mean `runner jobs`?"),
        (["jobs", "sbumit"], "no such command 'sbumit'; did you mean `runner jobs submit`?"),
        (["jobs", "xyzzy"], "no such command 'xyzzy'; commands here: submit, ls, show, watch, wait, why, logs, "),
        (["models", "ls", "--fromat", "json"], "no such option '--fromat'. Did you mean '--format'?"),
        (["jobs", "show"], "missing argument 'JOB'"),
        (["jobs", "export", "1"], "missing option '--to'. Choose from: tensorboard, mlflow, wandb"),
        (["jobs", "show", "--project"], "option '--project' requires an argument"),
        (["jobs", "wait", "1", "--json=yes"], "option '--json' does not take a value"),
        (["queue", "run", "--quota", "few"], "--quota takes a whole number from 0, such as 3, not 'few'"),
        (["predict", "hi", "--top-p", "all"], "--top-p takes a number from 0 to 1, such as 0.5, not 'all'"),
        (["emulator", "start", "--time-scale", "x"], "--time-scale takes a number from 0.001 to 100,000, such as"),
        (["checkpoints", "download", "1", "--to", __file__], f"--to {__file__}: a file, not a folder"),
        (
            ["data", "split", __file__, "--share", "y", "--training", "a", "--validation", "b"],
            "--share takes a number, such",
        ),
        (["emulator", "faults", "clear", "x"], "ID takes a whole number from 1, such as 3, not 'x'"),
        (["--format", "yaml", "models", "ls"], "--format takes text or json, not 'yaml'"),
        (["jobs", "wait", "1", "--timeout", "soon"], "--timeout takes a duration of at most 100 years, such as 45s"),
        (["jobs", "clone", "1", "--max-cost", "lots"], "--max-cost takes an amount of US dollars, such as 12.50"),
        (
            ["endpoints", "deploy", "1", "--max-cost", "-1"],
            "--max-cost takes an amount of US dollars, such as 12.50, not '-1'",
        ),
    ],
)
def test_mistakes_in_the_line_exit_2_and_say_what_was_meant(words: list[str], message: str, run: CommandLine) -> None:
    outcome = run(*words)

    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith(f"error: {message}")
    assert outcome.err.count("\n") == 2
    assert "--help` has examples" in outcome.err
    assert "`runner --help`" not in outcome.err or words[0] in {"jbos", "--format"}

    refused = run("--json", *words).error

    assert refused["problems"] == [refused["message"]]
    assert outcome.err.startswith(f"error: {refused['message']}\n")


@pytest.mark.parametrize("option", [["--format", "json"], ["--format=json"]])
def test_mistakes_in_the_line_are_json_too(option: list[str], run: CommandLine) -> None:
    outcome = run("jobs", "show", "--nope", *option)

    assert outcome.code == 2
    assert outcome.error["code"] == "configuration"


def test_a_group_without_a_command_shows_its_help(run: CommandLine) -> None:
    outcome = run("jobs")

    assert outcome.code == 2
    assert "Commands:" in outcome.err


def test_a_reader_that_goes_away_is_no_failure() -> None:
    done = subprocess.run(
        [
            "bash",
            "-c",
            f'{sys.executable} -m runner models ls --all --format json | head -c 1; echo "${{PIPESTATUS[0]}}"',
        ],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    first, code = done.stdout[0], done.stdout[1:].strip()

    assert first in "[{"
    assert code in {"0", "141"}  # 0 when everything fit into the pipe before the reader left
    assert all(json.loads(line).keys() == {"note"} for line in done.stderr.splitlines())


def test_closed_standard_output_is_quiet() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "runner", "models", "ls"], stdout=writer, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    os.close(writer)

    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_changes_no_exit_code(closed: str, tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text('{"prompt": "a", "completion": "b"}\n')
    found = []
    for words in (f"data check {path}", "models show absent"):
        line = f"{shlex.quote(sys.executable)} -m runner {words} {closed}"
        done = subprocess.run(["/bin/sh", "-c", line], cwd=Path(__file__).parents[2], capture_output=True, timeout=120)
        found.append(done.returncode)
        assert b"Traceback" not in done.stderr
    assert found == [0, 2]


def test_a_terminal_of_few_characters_gets_numbers() -> None:
    outcome = process("models", "show", "meta/llama3_1@ünknown", PYTHONIOENCODING="ascii", LC_ALL="C")

    assert outcome.code == 2
    assert "\\xfcnknown" in outcome.err


@pytest.mark.parametrize(("variables", "said"), [({"LANG": "C"}, r"\xfcnknown"), ({"LANG": "C.UTF-8"}, "ünknown")])
def test_a_terminal_of_the_c_locale_gets_ascii(variables: dict[str, str], said: str, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    terminal = Terminal(80, tmp_path / "work", {"LC_ALL": "", "LC_CTYPE": "", **variables})
    assert terminal.run("runner models show meta/llama3_1@ünknown") == 2
    output = terminal.seen[-1].partition("\n")[2]
    assert said in output
    assert output.isascii() == (variables["LANG"] == "C")


def test_an_interruption_that_a_compiled_package_noticed_is_no_bug(run: CommandLine) -> None:
    outcome = run("fails", "compiled")
    assert (outcome.code, outcome.err) == (130, "")


def test_an_interruption_before_the_first_line_is_no_traceback() -> None:
    program = """
import runpy, sys
class Interrupting:
    def find_spec(self, name, *_):
        if name == "click":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupting())
runpy.run_module("runner", run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (130, b"")


def test_an_interrupted_process_exits_130(tmp_path: Path) -> None:
    (tmp_path / "emulator").mkdir()
    (tmp_path / "emulator" / "emulator.log").write_text("first line\n")
    following = subprocess.Popen(
        [sys.executable, "-m", "runner", "emulator", "logs", "--follow"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "RUNNER_STATE_DIR": str(tmp_path)},
    )
    assert following.stdout is not None
    assert following.stdout.readline() == "first line\n"
    following.send_signal(signal.SIGINT)
    _, errors = following.communicate(timeout=60)

    assert following.returncode == 130
    assert "Traceback" not in errors


def test_a_shell_completes_commands_and_options() -> None:
    def completed(line: str, number: int) -> list[str]:
        return process(_RUNNER_COMPLETE="bash_complete", COMP_WORDS=line, COMP_CWORD=str(number)).out.split()

    assert completed("runner jo", 1) == ["plain,jobs"]
    assert completed("runner jobs sub", 2) == ["plain,submit"]
    assert "plain,--max-cost" in completed("runner jobs submit --max", 3)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_cannot_be_written_is_an_error_of_its_own(unbuffered: str) -> None:
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    command = [sys.executable, "-m", "runner", "models", "ls", "--format", "json"]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, env=environment, timeout=60, text=True)
    error = json.loads(done.stderr.splitlines()[-1])["error"]
    assert (done.returncode, error["code"]) == (74, "disk")
    assert "standard output" in error["message"]
    assert "No space left on device" in error["message"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_log_does_not_hide_the_exit_code() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([sys.executable, "-m", "runner", "no-such-thing"], stderr=full, timeout=60)
    assert done.returncode == 2
