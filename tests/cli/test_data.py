"""`runner data …`: what each command prints, and the commonest mistake with each."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from tests.cli.invocation import CommandLine

MODEL = "meta/llama3_1@llama-3.1-8b-instruct"


def test_findings_for_other_programs(run: CommandLine, tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"prompt": "", "completion": "b"}\n')
    assert "::error file=" in run("data", "check", str(path), "--report", "github").out
    assert "<testsuites" in run("data", "check", str(path), "--report", "junit").out
    assert run("data", "check", str(path), "--report", "sarif").document["version"] == "2.1.0"
    outcome = run("data", "check", str(path), "--report", "json")
    assert outcome.code == 3
    assert outcome.document["findings"][0]["code"] == "empty-text"


def test_the_command_printed_for_mistakes_in_lines_writes_a_file_without_them(
    run: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "my data" / "t.jsonl"
    path.parent.mkdir()
    good = '{"prompt": "a", "completion": "b"}\n'
    path.write_text(good + '{"prompt": "", "completion": "b"}\n')
    hint = json.loads(run("data", "check", str(path), "--format", "json").err)["error"]["hint"]
    command = next(part for part in hint.split("`") if part.startswith("runner data fix"))
    assert run(*shlex.split(command)[1:]).code == 0
    assert (tmp_path / "t-fixed.jsonl").read_text() == good
    assert run("data", "check", "t-fixed.jsonl").code == 0


def test_stats(run: CommandLine, dataset: Path) -> None:
    outcome = run("data", "stats", str(dataset), "--model", MODEL)
    assert outcome.code == 0
    assert outcome.out.count(MODEL) == 2
    body = run("data", "stats", str(dataset), "--format", "json").document
    assert sum(bar["count"] for bar in body["histogram"]) == 12
    sample = run("data", "stats", str(dataset), "--sample", "--format", "json").document
    assert sample["low95"] <= body["files"][0]["tokens"]["sum"] * 1.05
    assert run("data", "stats", str(dataset) + ".missing").code == 2


def test_preview(run: CommandLine, dataset: Path) -> None:
    outcome = run("data", "preview", str(dataset), "--line", "2")
    assert outcome.code == 0
    assert "[[" in outcome.out
    pieces = run("data", "preview", str(dataset), "--format", "json").document["pieces"]
    assert [piece["trained"] for piece in pieces].count(True) == 1
    missing = run("data", "preview", str(dataset), "--line", "99")
    assert missing.code == 2
    assert "line 99" in missing.err


def test_fix_split_convert_never_overwrite(run: CommandLine, dataset: Path, tmp_path: Path) -> None:
    fixed, train, held, chat = (str(tmp_path / name) for name in ("f.jsonl", "a.jsonl", "b.jsonl", "c.jsonl"))
    commands = (
        ("data", "fix", str(dataset), "--output", fixed),
        ("data", "split", str(dataset), "--training", train, "--validation", held, "--share", "0.2"),
        ("data", "convert", str(dataset), "--to", "chat", "--output", chat),
    )
    for command in commands:
        assert run(*command).code == 0, command
        again = run(*command)
        assert again.code == 2, command
        assert "already exists" in again.err
    assert "messages" in json.loads(Path(chat).read_text().splitlines()[0])


def test_the_page(run: CommandLine, dataset: Path, tmp_path: Path) -> None:
    page = tmp_path / "r.html"
    assert run("data", "report", str(dataset), "--html", str(page)).code == 0
    assert "</html>" in page.read_text()
    assert "--force" in run("data", "report", str(dataset), "--html", str(page)).err


def test_split_says_what_is_missing(run: CommandLine, tmp_path: Path) -> None:
    path, train, held = (tmp_path / name for name in ("all.jsonl", "t.jsonl", "v.jsonl"))
    rows = [{"prompt": f"q{number // 4}", "completion": f"{number}"} for number in range(40)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ("data", "split", str(path), "--training", str(train), "--validation", str(held), "--share", "0.15")
    said = "validation has 4 of the 6 examples that a share of 0.15 is: examples with the same prompt stay together"
    assert said in run(*command, "--quiet").err
    train.unlink()
    held.unlink()
    body = run(*command, "--format", "json").document
    assert (body["validation"]["rows"], body["wantedRows"]) == (4, 6)
    assert body["obstacles"] == ["examples with the same prompt stay together"]
