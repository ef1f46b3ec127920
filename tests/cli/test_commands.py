"""What holds for every command: help, examples, global options, the written reference."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from runner.cli.commands import MAY_BE_EMPTY, Command, Group
from runner.cli.main import root
from runner.cli.options import Invocation
from runner.cli.reference import man_page, reference
from runner.cli.values import Count, Number, Quantity, Whole
from runner.emulator.server import EmulatorServer
from tests.cli.google_addresses import google, without_addresses
from tests.cli.invocation import CommandLine
from tests.cli.looking import LINES, LookedAt, looked_at

ROOT = Path(__file__).parents[2]


def _every(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, Group):
        context = click.Context(command, info_name=path[-1] if path else "runner")
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None, f"{path} lists {name}"
            yield from _every(child, (*path, name))


EVERY = list(_every(root, ()))
IDS = [" ".join(path) or "runner" for path, _ in EVERY]


@pytest.mark.parametrize(("path", "command"), EVERY, ids=IDS)
def test_help_has_a_description_and_examples(path: tuple[str, ...], command: click.Command, run: CommandLine) -> None:
    outcome = run(*path, "--help")

    assert outcome.code == 0
    assert "Examples:\n  runner " in outcome.out or "Examples:\n  eval" in outcome.out
    assert command.help
    assert "Global options" in outcome.out
    for option in (parameter for parameter in command.params if isinstance(parameter, click.Option)):
        assert option.help, f"{path} {option.opts} says what it does"


@pytest.mark.parametrize(("path", "command"), EVERY, ids=IDS)
def test_an_empty_value_is_never_taken_as_none(path: tuple[str, ...], command: click.Command, run: CommandLine) -> None:
    """A shell variable that is not set; where nothing is given, there may be a default, such as the only endpoint."""
    for parameter in command.params:
        if parameter.name in MAY_BE_EMPTY or (isinstance(parameter, click.Option) and parameter.is_flag):
            continue
        before = sum(isinstance(other, click.Argument) for other in command.params[: command.params.index(parameter)])
        words = (
            [parameter.opts[0], *[""] * parameter.nargs]
            if isinstance(parameter, click.Option)
            else [*["x"] * before, ""]
        )
        outcome = run(*path, *words)
        assert (outcome.code, "is empty; is a variable not set?" in outcome.err) == (2, True), (
            path,
            words,
            outcome.err,
        )


def test_the_names_in_the_tables_are_those_of_the_commands() -> None:
    for path, command in EVERY[1:]:
        assert command.name == path[-1] or (command.name == "command" and len(path) == 1), path


@pytest.mark.parametrize(("path", "command"), EVERY, ids=IDS)
def test_every_example_is_a_valid_command_line(
    path: tuple[str, ...], command: click.Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "qwen3").mkdir()  # the tokenizer of some examples, looked for while parsing
    monkeypatch.chdir(tmp_path)
    assert isinstance(command, (Command, Group))
    for example in command.examples:
        for part in example.replace("|", "&&").split("&&"):
            words = shlex.split(re.split("[<>]", part)[0])
            words = words[words.index("runner") + 1 :] if "runner" in words else []
            for name in words:
                if re.fullmatch(r"[a-z_-]+\.(csv|jsonl?|txt|jpg)", name):
                    (tmp_path / name).touch()  # what is read is looked for while parsing, too
            if words and "xargs" not in part:
                _parse(words)


def _parse(words: list[str]) -> None:
    command: click.Command = root
    context = root.make_context("runner", list(words), obj=Invocation())
    while isinstance(command, Group):
        name, *rest = [*context._protected_args, *context.args]
        found = command.get_command(context, name)
        assert found is not None, words
        command, context = found, found.make_context(name, rest, parent=context)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_global_options_are_taken_anywhere(place: int, run: CommandLine) -> None:
    words = ["models", "ls"]
    words[place:place] = ["--format", "json"]

    assert isinstance(run(*words).document, list)


def test_the_last_of_an_option_wins(run: CommandLine) -> None:
    assert run("--format", "json", "models", "ls", "--format", "text", "-q").out.startswith("google/")


def test_numbers_have_types_of_our_own() -> None:
    """So that every refusal calls them a whole number or a number, and help shows them as N and X."""
    own = Count | Whole | Number | Quantity
    numbers = click.types.IntParamType | click.types.FloatParamType
    found = [
        f"{' '.join(path)} {parameter.opts[0]}"
        for path, command in EVERY
        for parameter in command.params
        for kind in getattr(parameter.type, "types", [parameter.type])
        if isinstance(kind, numbers) and not isinstance(kind, own)
    ]
    assert found == []


def test_the_reference_is_up_to_date() -> None:
    written = (ROOT / "docs" / "cli.md").read_text("utf-8")

    assert written == reference(), "python -m runner.cli.reference > docs/cli.md"


def test_the_page_for_man_is_made_from_the_help() -> None:
    written = (ROOT / "docs" / "runner.1").read_text("ascii")
    assert written == man_page(), "python -m runner.cli.reference --man > docs/runner.1"
    assert '.SH "RUNNER JOBS SUBMIT"' in written


HEAVY = (
    "httpx requests urllib3 google.auth google.oauth2 google.genai google.cloud.storage google.api_core rich pydantic"
)
HEAVY += " asyncio torch pulumi uvicorn starlette sqlite3 pyarrow msgspec yaml certifi"
SLOW = "statistics fractions difflib csv importlib.resources importlib.metadata subprocess zipfile runner.datasets"
"""What costs some milliseconds and is for mistakes, for other forms of output and for commands that change things."""


def _imported(names: str, *words: str, **variables: str) -> set[str]:
    """Run a command line as a process of its own and return which of these modules it imports."""
    program = (
        "import sys\n"
        "from runner.cli.main import main\n"
        "try:\n    main(sys.argv[2:])\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "found = [name for name in sys.argv[1].split() if name in sys.modules]\n"
        "print(*found, file=sys.stderr)\n"
    )
    command = [sys.executable, "-c", program, names, *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, **variables})
    assert done.returncode == 0, done.stderr
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize("line", ["--help", "--version", "jobs --help", "jobs submit --help", "emulator start --help"])
def test_help_imports_nothing_heavy(line: str) -> None:
    names = f"{HEAVY} platformdirs email.parser http.client"
    allowed = {"email.parser"} if line == "--version" else set()  # the installed version is in a file of that form
    assert _imported(names, *line.split()) <= allowed


@pytest.fixture(scope="module")
def place(emulator: EmulatorServer, tmp_path_factory: pytest.TempPathFactory) -> LookedAt:
    """A project with a trained job and an endpoint."""
    return looked_at(emulator, tmp_path_factory.mktemp("looked-at"), f"looked-at-{os.getpid()}")


@pytest.mark.training
@pytest.mark.parametrize("line", LINES)
def test_looking_imports_nothing_heavy(line: str, place: LookedAt) -> None:
    needed = {"csv"} if line.startswith("jobs metrics") else set()  # its other form than a table
    assert _imported(f"{HEAVY} {SLOW}", *place.words(line), **place.variables) <= needed


@pytest.mark.training
@pytest.mark.parametrize("line", ["jobs ls", "jobs diff {job} {job}", "endpoints ls"])
def test_looking_with_a_key_imports_only_what_the_login_needs(line: str, place: LookedAt, tmp_path: Path) -> None:
    with google(place.variables["RUNNER_VERTEX_URL"], place.variables["RUNNER_PROJECT"], tmp_path) as variables:
        needed = _imported(HEAVY, *place.words(line), **without_addresses(place.variables), **variables)
    assert needed <= {"certifi"}


def test_starting_needs_little_memory() -> None:
    from benchmarks.cli_start import MEMORY_LIMIT_MB, measure

    bare = measure([sys.executable, "-c", "pass"], runs=3)
    started = measure([sys.executable, "-m", "runner", "--help"], runs=3)

    assert started[1] - bare[1] <= MEMORY_LIMIT_MB


def test_the_installed_script_is_this_program() -> None:
    script = Path(sys.executable).with_name("runner")
    if not script.exists():
        pytest.skip("the package is not installed in this environment")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True, env=dict(os.environ))

    assert done.stdout.startswith("runner 0.")
