"""A value that is none of its kind: one sentence in our words, and all mistakes of a line at once."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from runner.cli.main import root
from runner.cli.reference import walk
from runner.cli.values import Refused, Value
from tests.cli.invocation import CommandLine

NONSENSE = ("x?", "-7q", "nan", "inf", "1e400", "5,00", "2026-13-45", "10/1/2026", "Ü b", "=", "\x00")
CLICKS_WORDS = re.compile(r"invalid value|is not a valid|does not match|is not in the range|not one of|strptime", re.I)


EVERY = [
    (path, parameter, context) for path, command, context in walk(root, None, "runner") for parameter in command.params
]
"""Every argument and option of every command, with the command's name."""
OWN = [item for item in EVERY if isinstance(item[1].type, Value)]


def test_every_value_that_is_no_text_is_of_our_own_kinds() -> None:
    """Else click, or Python, would say what is wrong with it."""
    others = [
        f"{path} {parameter.name}"
        for path, parameter, _ in EVERY
        if not isinstance(parameter.type, Value | click.types.StringParamType | click.types.BoolParamType)
    ]
    assert others == []
    assert len(OWN) > 100


@pytest.mark.parametrize("text", NONSENSE)
def test_nonsense_is_refused_in_one_sentence_with_an_example(text: str) -> None:
    said = {}
    for path, parameter, context in OWN:
        kind = parameter.type
        assert isinstance(kind, Value)
        try:
            kind.convert(text, parameter, context)
        except Refused as error:
            said[f"{path} {parameter.name}"] = message = error.format_message()
            assert message.startswith(
                ("--", parameter.human_readable_name.upper(), str(parameter.metavar).strip("[]."))
            )
            assert not CLICKS_WORDS.search(message)
            assert ": .: " not in message
            assert message.count(": ") <= 1
            if " takes " in message:
                assert message.endswith(f" takes {kind.form}, not {text!r}")
                assert ", such as " in message or " or " in message or "markdown" in message
    assert said


@pytest.mark.parametrize("kind", ["duration", "date", "usd", "number", "whole number", "lease", "metric"])
def test_nothing_of_these_kinds_takes_nonsense(kind: str) -> None:
    of_kind = [item for item in OWN if item[1].type.name == kind]
    assert of_kind
    for text in NONSENSE:
        for path, parameter, context in of_kind:
            with pytest.raises(Refused):
                print(path, parameter.name, repr(text), parameter.type.convert(text, parameter, context))


@pytest.mark.parametrize("digits", [20, 40, 400])
def test_no_number_is_larger_than_a_counter(digits: int) -> None:
    numbers = [item for item in OWN if item[1].type.name in ("number", "whole number")]
    assert numbers
    for _, parameter, context in numbers:
        with pytest.raises(Refused):
            parameter.type.convert("9" * digits, parameter, context)


def test_an_example_is_of_its_kind() -> None:
    for _, parameter, context in OWN:
        kind = parameter.type
        assert isinstance(kind, Value)
        if ", such as " in kind.form:
            example = re.split(", | or ", kind.form.split(", such as ")[1])[0]
            kind.convert(example, parameter, context)


@pytest.mark.parametrize("variable", ["RUNNER_MAX_HOURLY_COST"])
def test_a_variable_is_named_where_the_value_came_from_it(
    variable: str, run: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "nan")
    refused = run("endpoints", "deploy", "latest", "--json").error
    assert refused["message"] == f"{variable} takes an amount of US dollars, such as 12.50, not 'nan'"


LONG = "x" * 200
LINES: dict[str, tuple[str, list[str]]] = {
    "jobs submit": (
        "jobs submit --train absent.jsonl --validation folder --epochs many --mode half --max-cost nan --label a"
        f" --label B=c --adapter-size 3 --learning-rate 7 --model no/such --location mars --name {LONG} --output here",
        [
            "--train absent.jsonl: no such file",
            "--validation folder: a folder, not a file",
            "--epochs takes",
            "--mode takes FULL or PEFT_ADAPTER",
            "--max-cost takes",
            "--label takes KEY=VALUE, such as team=search, not 'a'",
            "label 'B'",
            "learning rate: 7.0",
            "'no/such' is not in the catalog",
            "'mars'",
            "200 characters",
            "--output takes",
        ],
    ),
    "jobs submit, each value of its kind": (
        "jobs submit --train sound.jsonl --validation sound.jsonl --label B=c --adapter-size 3 --learning-rate 7"
        " --model qwen/qwen3@qwen3-32b --location mars --epochs 1000",
        ["label 'B'", "learning rate", "adapter size", "'mars'", "1000", "is the training dataset"],
    ),
    "jobs clone": (
        "jobs clone latest --set a --set epochs=x --set nothing=1 --max-cost $ --to Ü",
        ["--set takes", "epochs: 'x'", "'nothing' is not", "--max-cost takes", "--to takes the name of a location"],
    ),
    "endpoints deploy": (
        "endpoints deploy gs:// --autoscale a --autoscale gpu=600 --spot --reservation any --percent 50 --shared"
        " --private p --max-cost -0 --lease 0 --check absent.jsonl --accelerator-count 2",
        [
            "--autoscale takes",
            "target of gpu is 600",
            "Spot VMs",
            "share of the traffic",
            "shared endpoint",
            "--max-cost takes",
            "--lease takes",
            "--check absent.jsonl: no such file",
            "an accelerator needs a machine type",
            "more than one replica",
            "gs://",
        ],
    ),
    "endpoints deploy, each value of its kind": (
        "endpoints deploy gs:// --autoscale gpu=600 --spot --reservation any --percent 50 --shared --private p",
        [
            "target of gpu is 600",
            "more than one replica",
            "Spot VMs",
            "share of the traffic",
            "shared endpoint",
            "gs://",
        ],
    ),
    "data upload": (
        "data upload absent.jsonl --validation folder --model no/such --to here --mode half",
        ["TRAINING absent.jsonl: no", "--validation folder: a", "'no/such' is not", "--to takes", "--mode takes"],
    ),
    "data convert": (
        "data convert absent.jsonl --output folder --encoding klingon --from xml --to x --pipeline a=b --max-cost x",
        [
            "FILE absent.jsonl: no such file",
            "--output folder: a folder",
            "--encoding takes",
            "--from takes",
            "--to takes",
            "require --engine beam",
            "--max-cost takes",
        ],
    ),
    "batch": (
        "batch absent.jsonl -o folder --model m --timeout soon --concurrency 0 --temperature hot",
        [
            "FILE absent.jsonl: no such file",
            "--output folder: a folder",
            "need --engine vertex",
            "--timeout takes",
            "--concurrency takes",
            "--temperature takes",
        ],
    ),
    "eval": (
        "eval absent.jsonl --endpoint a --model m --report file/page.html --limit 0 --judge-price free",
        [
            "FILE absent.jsonl: no such file",
            "either an endpoint or a model",
            "base endpoint or a base model",
            "page.html",
            "--limit takes",
            "--judge-price takes",
        ],
    ),
    "eval, each value of its kind": (
        "eval sound.jsonl --endpoint a --model m --report file/page.html --engine vertex",
        ["either an endpoint or a model", "base endpoint or a base model", "page.html", "no batch prediction job"],
    ),
    "chat": (
        "chat hi --endpoint e --model m --replay sound.jsonl --image absent.png --image other.png --resume absent.json"
        " --top-p 2",
        [
            "either --endpoint or --model",
            "omit MESSAGE and --resume",
            "--image absent.png: no such file",
            "--image other.png: no such file",
            "--resume absent.json: no such file",
            "--top-p takes",
        ],
    ),
}


@pytest.mark.parametrize("name", LINES)
def test_all_mistakes_of_a_line_are_told_at_once(
    name: str, run: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "sound.jsonl").write_text('{"prompt": "a", "completion": "b"}\n' * 12)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RUNNER_PROJECT", "some-project")
    monkeypatch.setenv("RUNNER_DATASETS_BUCKET", "some-bucket")
    monkeypatch.setenv("RUNNER_OUTPUTS_BUCKET", "some-bucket")
    line, wanted = LINES[name]

    outcome = run(*line.split(), "--json")

    assert outcome.code == 2, outcome.err
    problems = outcome.error["problems"]
    for part in wanted:
        assert sum(part in problem for problem in problems) == 1, (part, problems)
    assert len(problems) == len(wanted), problems
    assert sorted(item.name for item in tmp_path.iterdir()) == ["file", "folder", "sound.jsonl"]


def test_words_that_no_command_takes_are_shown_as_they_were_typed(run: CommandLine) -> None:
    done = run("jobs", "ls", ".", "It works.")
    assert (done.code, done.err.splitlines()[0]) == (2, "error: unexpected arguments '.', 'It works.'")


def test_an_emulator_that_does_not_run_hides_no_mistake(run: CommandLine, state_directory: Path) -> None:
    assert run("use", "emulator").code == 0
    outcome = run("jobs", "submit", "--model", "m", "--train", "absent.jsonl", "--epochs", "x", "--json")
    assert outcome.code == 2
    first, second, *others = outcome.error["problems"]
    assert (first, second[:9]) == ("--train absent.jsonl: no such file", "--epochs ")
    assert any("emulator" in problem for problem in others)


def test_options_of_one_command_have_names_of_their_own() -> None:
    """Click sets all options of one name from each of them."""
    names = [(path, parameter.name) for path, parameter, _ in EVERY if getattr(parameter, "flag_value", None) is None]
    flags = {(path, parameter.name) for path, parameter, _ in EVERY} - set(names)
    assert {name for name in names if names.count(name) > 1} - flags == set()
