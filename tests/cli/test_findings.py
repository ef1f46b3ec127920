"""Whatever command reads a broken dataset lists what is wrong with it, with its place, where people see it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.invocation import CommandLine
from tests.provisioning import Provisioned

MODEL = "meta/llama3_1@llama-3.1-8b-instruct"
GOOD = '{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}\n'
BAD = '{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": null}]}\n'
PLACE = "t.jsonl:2 messages[1].content: "


def commands(path: Path) -> dict[str, tuple[str, ...]]:
    train, held, page = (str(path.parent / name) for name in ("a.jsonl", "b.jsonl", "page.html"))
    return {
        "stats": ("data", "stats", str(path)),
        "preview": ("data", "preview", str(path), "--line", "2"),
        "split": ("data", "split", str(path), "--training", train, "--validation", held),
        "upload": ("data", "upload", str(path)),
        "upload --images": ("data", "upload", str(path), "--images"),
        "estimate": ("estimate", str(path), "--model", MODEL),
        "submit": ("jobs", "submit", "--train", str(path), "--model", MODEL, "--dry-run"),
        "validation": ("jobs", "submit", "--train", page, "--validation", str(path), "--model", MODEL, "--dry-run"),
    }


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    path = tmp_path / "t.jsonl"
    path.write_text(GOOD + BAD + GOOD.replace("q", "r"))
    (tmp_path / "page.html").write_text("".join(GOOD.replace("q", f"s{number}") for number in range(40)))
    return path


@pytest.mark.parametrize("name", commands(Path("t.jsonl")))
def test_every_command_lists_the_findings(name: str, run: CommandLine, in_project: Provisioned, broken: Path) -> None:
    command = commands(broken)[name]
    outcome = run(*command)
    assert outcome.code == 3, outcome
    assert outcome.err.count(PLACE) == 1
    assert PLACE in run(*command, "--quiet").err
    outcome = run(*command, "--format", "json")
    assert all(isinstance(json.loads(line), dict) for line in outcome.err.splitlines())
    assert [(item["line"], item["path"]) for item in outcome.error["findings"]] == [(2, "messages[1].content")]
    assert PLACE not in outcome.err


@pytest.mark.parametrize("options", [(), ("--report", "github"), ("--max-findings", "0")])
def test_check_lists_them_once(options: tuple[str, ...], run: CommandLine, broken: Path) -> None:
    outcome = run("data", "check", str(broken), *options)
    assert outcome.code == 3
    assert PLACE not in outcome.err
    assert PLACE in run("data", "check", str(broken), "--quiet").err


def test_a_plan_lists_them_once(
    run: CommandLine, in_project: Provisioned, broken: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNNER_CONTRACT_BUCKET", in_project.outputs)
    manifest = broken.parent / "tone.yaml"
    body: Any = {
        "apiVersion": "open-model-tuning/v1",
        "kind": "TuningJob",
        "metadata": {"name": "tone"},
        "spec": {"baseModel": MODEL, "data": {"train": "t.jsonl"}},
    }
    manifest.write_text(json.dumps(body))
    outcome = run("plan", "-f", str(manifest))
    assert outcome.code == 3, outcome
    assert outcome.err.count(PLACE) == 1


def test_many_are_cut(run: CommandLine, in_project: Provisioned, broken: Path) -> None:
    broken.write_text(BAD * 50)
    outcome = run("data", "upload", str(broken))
    assert outcome.err.count(" messages[1].content: ") == 20
    assert "… and 30 more: list all with --format json" in outcome.err


def test_images_that_cannot_be_uploaded_are_listed(run: CommandLine, in_project: Provisioned, broken: Path) -> None:
    image = {"type": "image_url", "image_url": {"url": "missing.jpg"}}
    row = {"messages": [{"role": "user", "content": [image]}, {"role": "assistant", "content": "a"}]}
    broken.write_text(json.dumps(row) + "\n")
    outcome = run("data", "upload", str(broken), "--images")
    assert "t.jsonl:1 messages[0].content[0].image_url.url: missing.jpg: no such file" in outcome.err
    assert "1 image cannot be uploaded" in outcome.err
