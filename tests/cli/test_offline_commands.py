"""Commands that need no service, and the commonest mistake with each that does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.invocation import CommandLine

MODEL = "meta/llama3_1@llama-3.1-8b-instruct"


def test_models_as_table_json_and_names(run: CommandLine) -> None:
    assert run("models", "ls").out.splitlines()[0].split() == [
        "model",
        "mode",
        "max",
        "tokens",
        "USD/M",
        "tokens",
        "input",
    ]
    bodies = run("models", "ls", "--format", "json").document
    names = run("models", "ls", "-q").out.split()

    assert [body["id"] for body in bodies] == names
    assert MODEL in names
    assert len(run("models", "ls", "--all", "-q").out.split()) > len(names)


def test_models_on_a_narrow_terminal_lose_nothing(run: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    lines = run("models", "ls").out.splitlines()

    assert max(map(len, lines)) <= 60
    assert "meta/llama4@llama-4-scout-17b-16e-instruct  PEFT_ADAPTER" in lines
    assert "not shown here: input, max tokens, USD/M tokens" in run("models", "ls").err
    monkeypatch.setenv("COLUMNS", "30")
    assert "model         meta/llama4@llama-4-scout-17b-16e-instruct" in run("models", "ls").out.splitlines()


def test_a_model_in_full(run: CommandLine) -> None:
    assert "at most 4096 tokens per example, $0.67 per million tokens" in run("models", "show", MODEL).out
    assert run("models", "show", MODEL, "--format", "json").document["modes"]["FULL"]["maxSequenceLength"] == 8192


def test_sound_data(run: CommandLine, dataset: Path) -> None:
    outcome = run("data", "check", str(dataset), "--model", MODEL)

    assert outcome.code == 0
    assert outcome.out.splitlines()[-1].split()[:3] == ["train.jsonl", "12", "12"]
    assert outcome.err == "no errors\n"


def test_all_errors_in_data_are_listed(run: CommandLine, dataset: Path) -> None:
    dataset.write_text(dataset.read_text() + '{"prompt": 1, "completion": "x"}\nnot json\x1b[2J\n')
    outcome = run("data", "check", str(dataset))

    assert outcome.code == 3
    assert "train.jsonl:13 " in outcome.out
    assert "train.jsonl:14" in outcome.out
    assert "\x1b" not in outcome.out
    assert outcome.err.startswith("error: ")

    machine = run("data", "check", str(dataset), "--format", "json")
    assert machine.document["ok"] is False
    assert {finding["line"] for finding in machine.error["findings"]} == {13, 14}


def test_strict_data_fails_on_warnings(run: CommandLine, dataset: Path) -> None:
    dataset.write_text(dataset.read_text() + dataset.read_text().splitlines()[0] + "\n")

    assert run("data", "check", str(dataset)).code == 0
    assert run("data", "check", str(dataset), "--strict").code == 3
    assert "1 more" in run("data", "check", str(dataset), "--max-findings", "0").out


def test_an_estimate(run: CommandLine, dataset: Path) -> None:
    outcome = run("estimate", str(dataset), "--model", MODEL, "--epochs", "2", "--format", "json")
    body = outcome.document

    assert body["usd"]["low"] <= body["usd"]["expected"] <= body["usd"]["high"]
    assert body["billedTokens"] == 2 * body["tokensPerEpoch"]
    assert "price" in run("estimate", str(dataset), "--model", MODEL).out


def test_where_values_of_the_environment_come_from(run: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNNER_PROJECT", "from-variable")
    rows = [line.split() for line in run("environment", "show", "--location", "europe-west4").out.splitlines()]

    assert ["project", "from-variable", "RUNNER_PROJECT"] in rows
    assert ["location", "europe-west4", "--location"] in rows
    assert run("environment", "show", "--project", "p", "--format", "json").document["project"] == "p"


def test_the_doctor_says_what_to_do(run: CommandLine) -> None:
    outcome = run("doctor", "--format", "json")
    findings = {finding["check"]: finding for finding in outcome.document}

    assert outcome.code == 1
    assert findings["Python"]["state"] == "ok"
    assert findings["emulator"] == {
        "check": "emulator",
        "state": "missing",
        "message": "does not run",
        "fix": "`runner emulator start`",
    }
    assert findings["environment"]["state"] == "failed"
    assert findings["environment"]["fix"]


@pytest.mark.parametrize(
    ("words", "code", "name"),
    [
        (["quickstart", "--fst"], 2, "configuration"),
        (["emulator", "start", "--model-directory", "nope"], 2, "configuration"),
        (["emulator", "start", "--model-directory", "no-model=/"], 2, "unknown_model"),
        (["emulator", "status"], 69, "unreachable"),
        (["emulator", "env"], 69, "unreachable"),
        (["emulator", "provision"], 69, "unreachable"),
        (["emulator", "logs"], 2, "configuration"),
        (["environment", "show", "--environment", "/nowhere.json"], 2, "configuration"),
        (["models", "show", "meta/llama3_1@llama-3.1-8b-instrct"], 2, "unknown_model"),
        (["data", "check", "/nowhere.jsonl"], 2, "configuration"),
        (["data", "check", "{dataset}", "--model", MODEL, "--mode", "LORA"], 2, "configuration"),
        (["data", "upload", "{dataset}"], 2, "configuration"),
        (["estimate", "{dataset}", "--model", "llama"], 2, "unknown_model"),
        (["estimate", "/nowhere.jsonl", "--model", MODEL], 2, "configuration"),
        (["jobs", "submit", "--model", MODEL, "--train", "{dataset}"], 2, "configuration"),
        (["jobs", "submit", "--model", MODEL, "--train", "{dataset}", "--label", "team"], 2, "configuration"),
        (["jobs", "ls"], 2, "configuration"),
        (["jobs", "ls", "--label", "team"], 2, "configuration"),
        (["jobs", "show", "1"], 2, "configuration"),
        (["jobs", "watch", "latest"], 2, "configuration"),
        (["jobs", "wait"], 2, "configuration"),
        (["jobs", "cancel", "1"], 2, "configuration"),
        (["checkpoints", "ls"], 2, "configuration"),
        (["checkpoints", "download", "1"], 2, "configuration"),
        (["endpoints", "deploy", "1"], 2, "configuration"),
        (["endpoints", "ls"], 2, "configuration"),
        (["endpoints", "show", "1"], 2, "configuration"),
        (["endpoints", "undeploy"], 2, "configuration"),
        (["predict"], 2, "configuration"),
        (["predict", "--instances", "{dataset}.missing"], 2, "configuration"),
        (["chat"], 2, "configuration"),
        (["chat", "hi", "--endpoint", "1", "--model", "2"], 2, "configuration"),
        (["jobs", "ls", "--project", "p", "--environment", "{unreachable}"], 69, "unreachable"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_the_commonest_mistakes(
    words: list[str], code: int, name: str, run: CommandLine, dataset: Path, tmp_path: Path
) -> None:
    unreachable = tmp_path / "environment.json"
    addresses = {"vertex": "http://127.0.0.1:9", "storage": "http://127.0.0.1:9"}
    unreachable.write_text(json.dumps({"version": 1, "project": "p", "apiEndpoints": addresses}))
    words = [word.format(dataset=dataset, unreachable=unreachable) for word in words]

    outcome = run(*words, "--format", "json")

    assert (outcome.code, outcome.error["code"]) == (code, name), outcome.err
    assert outcome.out == ""
    assert outcome.error["message"]
    assert run(*words).err.startswith("error: ")
