"""What `data check` says of a file is what a real job makes of it: tokens, masks, and what is dropped and why."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.catalog import find_model
from runner.datasets.checks import check_files
from runner.emulator.engine.tiny import prepare_tiny
from runner.emulator.server import EmulatorServer
from runner.gcp import uploads
from runner.gcp.session import Session
from runner.jobs.following import watching
from runner.jobs.specification import TuningJobSpec
from runner.jobs.submitting import submission
from tests.end_to_end.test_images import session_for
from tests.provisioning import Provisioned

pytestmark = [pytest.mark.training, pytest.mark.usefixtures("state_directory")]

MODEL = "meta/llama3_1@llama-3.1-8b-instruct"
TEXTS = (
    "What is a car?",
    "Où est l'été ? 🎉 你好",
    "\n\ndef f(x):\n\treturn x ** 2",
    "word " * 40,
    "<|eot_id|> is a token",
)


def conversations(seed: int) -> Iterator[tuple[str, list[str]]]:
    """Yield system texts, empty for none, and turns; some are too long, some end with a question."""
    draw = random.Random(seed)
    for number in range(24):
        turns = [f"{draw.choice(TEXTS)} {number}.{turn}" for turn in range(2 * draw.choice((1, 1, 2, 3)))]
        if number in {5, 11}:
            turns[-1] = "far too long " * 3000
        if number == 17:
            turns.append("And then?")
        yield ("Be brief." if draw.random() < 0.5 else ""), turns


def chat(system: str, turns: list[str]) -> dict[str, Any]:
    first = [{"role": "system", "content": system}] if system else []
    return {
        "messages": first
        + [{"role": ("user", "assistant")[index % 2], "content": text} for index, text in enumerate(turns)]
    }


def generate_content(system: str, turns: list[str]) -> dict[str, Any]:
    body: dict[str, Any] = {"system_instruction": {"parts": [{"text": system}]}} if system else {}
    # In two parts, which are one text to the model.
    body["contents"] = [
        {"role": ("user", "model")[index % 2], "parts": [{"text": text[:7]}, {"text": text[7:]}]}
        for index, text in enumerate(turns)
    ]
    return body


@pytest.fixture
def session(project: Provisioned) -> Iterator[Session]:
    with session_for(project) as opened:
        yield opened


@pytest.mark.parametrize("form", [chat, generate_content])
def test_a_job_reports_what_the_check_said(
    form: Any, session: Session, project: Provisioned, emulator: EmulatorServer, tmp_path: Path
) -> None:
    lines = [json.dumps(form(*conversation)) for conversation in conversations(3)]
    lines[8] = '{"prompt": "a", "completion": ""}'
    path = tmp_path / "train.jsonl"
    path.write_text("\n".join(lines) + "\n")
    uri = f"gs://{project.datasets}/train.jsonl"
    uploads.upload_bytes(session, path.read_bytes(), uri)
    spec = TuningJobSpec(base_model=MODEL, mode="PEFT_ADAPTER", training_dataset=uri, adapter_size=4, epochs=1)
    job = watching.wait(session, submission.submit(session, spec).name, timeout=240, poll=0.3)
    told = job.data_stats

    tokenizer = prepare_tiny("llama3", emulator.settings.model_cache)
    report = check_files(path, model=find_model(MODEL), mode="PEFT_ADAPTER", tokenizer=tokenizer)
    file = report.training
    assert report.tokens_exact
    assert file.tokens.total == int(told["totalBillableTokenCount"])
    assert file.trained_tokens == int(told["userOutputTokenDistribution"]["sum"])
    assert file.characters == int(told["totalTuningCharacterCount"])
    lengths = told["userInputTokenDistribution"]
    assert file.tokens.total - file.trained_tokens == int(lengths["sum"])
    assert file.lines == int(told["tuningDatasetExampleCount"])
    dropped = dict(zip(map(int, told["truncatedExampleIndices"]), told["droppedExampleReasons"], strict=True))
    refused = {finding.line: finding for finding in report.findings if finding.severity == "error" and finding.line}
    too_long = {finding.line: finding for finding in report.findings if finding.code == "over-length"}
    assert set(dropped) == set(refused) | set(too_long) == {6, 9, 12, 18}
    assert file.kept == file.lines - int(told["totalTruncatedExampleCount"])
    for line, finding in refused.items():
        assert dropped[line].endswith(f"({finding.code})")
    for line, finding in too_long.items():
        assert finding.message.split()[0] in dropped[line], "the same number of tokens"
