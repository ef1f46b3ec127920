"""The command that a check prints for broken lines: it is there exactly where it helps, and it helps."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.datasets.checks import check_files
from runner.errors import DatasetError
from tests.cli.invocation import CommandLine

LINES = [
    json.dumps({"messages": [{"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": f"a{n}"}]})
    for n in range(30)
]
PAIRS = [json.dumps({"prompt": f"q{n}", "completion": f"a{n}"}) for n in range(30)]

BROKEN: dict[str, Callable[[list[str]], str]] = {
    "commas behind objects": lambda lines: ",\n".join(lines) + ",\n",
    "a byte order mark on each line": lambda lines: "".join(f"\ufeff{line}\n" for line in lines),
    "glued": "".join,
    "glued with marks between": "\ufeff".join,
    "line ends of old Macs": "\r".join,
    "line ends of Unicode": "\u2028".join,
    "one long line": lambda lines: " ".join(lines * 200),
    "Python's notation": lambda lines: "".join(f"{json.loads(line)}\n" for line in lines),
    "NUL bytes": lambda lines: "".join(f"{line[:-1]}\0}}\n" for line in lines),
}
HOPELESS: dict[str, Callable[[list[str]], str]] = {
    "cut lines": lambda lines: "".join(f"{line[:30]}\n" for line in lines),
    "single quotes that are no Python": lambda lines: "".join(f"{{'{line[1:]}\n" for line in lines),
    "an object in Python's notation that no JSON has": lambda lines: "{'prompt': {1, 2}, 'completion': b'x'}\n" * 3,
    "a key that is there twice, in Python's notation": lambda lines: "{'prompt': 'a', 'prompt': 'b'}\n",
    "numbers": lambda lines: "1\n2\n",
    "half a table": lambda lines: '{"prompt": ["a", "b"], "completion": ["c"]}',
    "nested": lambda lines: "[" * 100_000,
}


def hint_of(path: Path) -> str:
    with pytest.raises(DatasetError) as caught:
        check_files(path).raise_for_errors()
    return caught.value.hint or ""


@pytest.mark.parametrize("lines", [LINES, PAIRS], ids=["chat", "pairs"])
@pytest.mark.parametrize("what", BROKEN)
def test_the_printed_command_mends_what_is_broken(
    what: str, lines: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run = CommandLine(capsys, monkeypatch)
    path = tmp_path / "train.jsonl"
    text = BROKEN[what](lines)
    path.write_text(text, "utf-8", newline="")
    command = shlex.split(hint_of(path).split("`")[3])
    assert command[:3] == ["runner", "data", "fix"]
    assert run(*command[1:]).code == 0
    report = check_files(tmp_path / command[-1])
    assert report.errors == []
    written = (tmp_path / command[-1]).read_text().splitlines()
    expected = [json.dumps(json.loads(line), separators=(",", ":")) for line in lines]
    assert written == expected * (len(written) // len(expected))


def test_records_under_other_names_are_told_how_to_name_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "news.jsonl"
    path.write_text('{"id": 7, "document": "Long.", "summary": "Short."}\n' * 3, "utf-8")
    hint = hint_of(path)
    command = shlex.split(hint[hint.index("runner ") :])
    names = iter(["document", "summary"])
    command = [next(names) if word == "NAME" else word for word in command]
    assert CommandLine(capsys, monkeypatch)(*command[1:]).code == 0
    [first, *_] = map(json.loads, (tmp_path / command[-1]).read_text().splitlines())
    assert [turn["content"] for turn in first["messages"]] == ["Long.", "Short."]


@pytest.mark.parametrize("what", HOPELESS)
def test_no_command_is_printed_that_would_write_nothing(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text(HOPELESS[what](LINES), "utf-8")
    assert "data fix" not in hint_of(path)
    run = CommandLine(capsys, monkeypatch)
    assert run("data", "fix", str(path), "--output", str(tmp_path / "out.jsonl")).code != 0
    assert not (tmp_path / "out.jsonl").exists()
