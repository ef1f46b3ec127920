"""The printer."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

import runner.cli
from runner.cli.output import Output

HEADINGS = ["id", "name", "size"]
ROWS = [["1", "short", 5], ["2", "a name that needs some room", 12345]]


def test_a_table_in_a_pipe_is_aligned_and_has_no_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    Output().table(HEADINGS, ROWS, body=None, numbers=(2,))

    assert capsys.readouterr().out.splitlines() == [
        "id  name                          size",
        "1   short                            5",
        "2   a name that needs some room  12345",
    ]


def test_rows_become_blocks_where_the_table_is_too_wide(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "30")

    Output().table(HEADINGS, ROWS, body=None)

    assert capsys.readouterr().out.splitlines() == [
        "id    1",
        "name  short",
        "size  5",
        "",
        "id    2",
        "name  a name that needs some room",
        "size  12345",
    ]


def test_the_same_as_json_and_as_bare_names(capsys: pytest.CaptureFixture[str]) -> None:
    Output(format="json").table(HEADINGS, ROWS, body=[{"id": "1"}, {"id": "2"}])
    assert json.loads(capsys.readouterr().out) == [{"id": "1"}, {"id": "2"}]

    Output(quiet=True).table(HEADINGS, ROWS, body=[], names=["1", "2"])
    assert capsys.readouterr().out == "1\n2\n"


def test_an_empty_table_says_so_beside_the_result(capsys: pytest.CaptureFixture[str]) -> None:
    Output().table(HEADINGS, [], body=[], empty="no jobs")

    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "no jobs\n")


@pytest.mark.parametrize("output", [Output(), Output(quiet=True), Output(format="json")])
def test_remote_texts_cannot_steer_the_terminal(output: Output, capsys: pytest.CaptureFixture[str]) -> None:
    evil = "\x1b]0;owned\x07\x9b2J\u202e"

    output.result({"name": evil}, [("name", evil)], name=evil)
    output.table(["name"], [[evil]], body=[evil], names=[evil])
    output.piece(evil)
    output.note(evil)
    output.warning(evil)
    output.failure({"code": "failed", "message": evil, "hint": evil})

    captured = capsys.readouterr()
    for text in (captured.out, captured.err):
        assert not set(text) & set("\x1b\x07\x9b\u202e")


def test_wide_characters_keep_columns_straight(capsys: pytest.CaptureFixture[str]) -> None:
    Output().table(["name", "n"], [["日本", 1], ["abc", 2]], body=None)

    assert capsys.readouterr().out.splitlines() == ["name  n", "日本  1", "abc   2"]


def test_progress_in_a_log_is_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with Output().progress("upload") as progress:
        for done in range(0, 1001, 10):
            progress(done, 1000)

    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines()[-1] == "upload: 1000 B of 1000 B"
    assert len(captured.err.splitlines()) <= 3


def test_quiet_has_no_progress(capsys: pytest.CaptureFixture[str]) -> None:
    with Output(quiet=True).progress("upload") as progress:
        progress(1, 1)

    assert capsys.readouterr().err == ""


def test_colours_only_when_asked_for_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    Output(color=True).table(["a"], [["b"]], body=None)
    Output(color=None).table(["a"], [["b"]], body=None)

    assert capsys.readouterr().out == "\x1b[1ma\x1b[0m\nb\na\nb\n"


def test_every_table_of_four_columns_says_which_a_narrow_terminal_can_do_without() -> None:
    """Without them, a table that is too wide becomes blocks, which nobody can compare."""
    silent = []
    for path in Path(runner.cli.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "table"):
                continue
            headings = node.args[0]
            few = isinstance(headings, (ast.List, ast.Tuple)) and len(headings.elts) < 4
            if not few and "droppable" not in {keyword.arg for keyword in node.keywords}:
                silent.append(f"{path.name}:{node.lineno}")
    assert silent == []


def test_several_names_are_never_one_text() -> None:
    """`--quiet` prints a name per line, with its control characters escaped: a list is not joined before."""
    joined = [
        f"{path.name}:{node.lineno}"
        for path in (Path(__file__).parents[2] / "runner" / "cli").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.keyword) and node.arg == "name" and "join(" in ast.unparse(node.value)
    ]
    assert joined == []
