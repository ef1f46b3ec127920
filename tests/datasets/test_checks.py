"""Whole files: repeats, leakage, sizes, the mixed rule, lengths."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from runner.catalog import find_model
from runner.datasets.checks import check_files
from runner.datasets.reports.report import Report
from runner.errors import ConfigurationError, DatasetError

ROOT = Path(__file__).parents[2]
LLAMA = find_model("meta/llama3_1@llama-3.1-8b-instruct")
SCOUT = find_model("meta/llama4@llama-4-scout-17b-16e-instruct")


def row(prompt: str, completion: str) -> dict[str, str]:
    return {"prompt": prompt, "completion": completion}


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(item) + "\n" for item in rows))
    return path


def codes(report: Report) -> list[tuple[str, int]]:
    return [(finding.code, finding.line) for finding in report.findings]


def test_repeats_and_conflicts(tmp_path: Path) -> None:
    rows = [row("a", "1"), row("b", "2"), row("a", "1"), row("b", "3")]
    report = check_files(write(tmp_path / "t.jsonl", rows))
    assert codes(report) == [("duplicate-example", 3), ("conflicting-answers", 4)]
    assert report.errors == []


def test_validation_rules(tmp_path: Path) -> None:
    training = write(tmp_path / "t.jsonl", [row(f"question {index}", "answer") for index in range(8)])
    validation = write(tmp_path / "v.jsonl", [row("question 1", "answer"), row("x", "y"), row("z", "z")])
    report = check_files(training, validation)
    assert codes(report) == [("leakage", 1), ("validation-too-large", 0)]
    with pytest.raises(DatasetError) as caught:
        report.raise_for_errors()
    assert caught.value.findings[0]["file"] == "v.jsonl"


def test_more_than_5000_validation_rows(tmp_path: Path) -> None:
    training = write(tmp_path / "t.jsonl", [row(f"question {index}", "a" * 400) for index in range(5100)])
    validation = write(tmp_path / "v.jsonl", [row(f"{index}", "b") for index in range(5001)])
    assert codes(check_files(training, validation)) == [("validation-too-large", 0)]


def test_mixed_formats_name_the_first_line_of_each(tmp_path: Path) -> None:
    chat = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    report = check_files(write(tmp_path / "t.jsonl", [row("a", "1"), row("b", "2"), chat]))
    assert [finding.code for finding in report.errors] == ["mixed-formats"]
    assert "prompt_completion from line 1" in report.errors[0].message
    assert "chat from line 3" in report.errors[0].message


def test_with_one_image_the_text_only_examples_are_dropped(tmp_path: Path) -> None:
    def example(*content: dict[str, Any]) -> dict[str, Any]:
        return {"messages": [{"role": "user", "content": list(content)}, {"role": "assistant", "content": "b"}]}

    image = {"type": "image_url", "image_url": {"url": "gs://a-bucket/a.png"}}
    rows = [example({"type": "text", "text": f"q{index}"}) for index in range(3)]
    rows.append(example({"type": "text", "text": "look"}, image))
    report = check_files(write(tmp_path / "t.jsonl", rows), model=SCOUT)
    assert codes(report) == [("text-only-filtered", 0)]
    assert "lines 1, 2, 3" in report.findings[0].message
    assert (report.training.kept, report.training.text_only_filtered) == (1, 3)
    refused = check_files(write(tmp_path / "t.jsonl", rows), model=LLAMA)
    assert [(finding.code, finding.line) for finding in refused.errors] == [("image-unsupported", 4)]


def test_over_length_is_dropped_and_counted(tmp_path: Path) -> None:
    rows = [row("a", "short"), row("b", "x" * 20_000)]
    report = check_files(write(tmp_path / "t.jsonl", rows), model=LLAMA, mode="PEFT_ADAPTER")
    assert codes(report) == [("over-length", 2)]
    assert "4096 allowed" in report.findings[0].message
    assert (report.training.kept, report.training.over_length) == (1, 1)
    only = check_files(write(tmp_path / "t.jsonl", rows[1:]), model=LLAMA, mode="PEFT_ADAPTER")
    assert [finding.code for finding in only.errors] == ["nothing-left"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("<|im_end|>", "special-token"),
        ("<start_of_turn>user", "special-token"),
        ("write to jane@example.com", "personal-data"),
        ("key AKIAABCDEFGHIJKLMNOP", "secret"),
        ("-----BEGIN RSA PRIVATE KEY-----", "secret"),
    ],
)
def test_texts_that_should_not_be_learnt(tmp_path: Path, text: str, code: str) -> None:
    report = check_files(write(tmp_path / "t.jsonl", [row(text, "b")]))
    assert codes(report) == [(code, 1)]
    assert report.errors == []
    assert text not in json.dumps(report.to_json()) or code == "special-token"


def test_no_text_file(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(b"%PDF-1.7 and more")
    assert codes(check_files(path)) == [("not-text", 1)]
    path.write_bytes(gzip.compress(b'{"prompt": "a", "completion": "b"}'))
    assert codes(check_files(path)) == [("decoded", 0)]
    path.write_bytes('{"prompt": "a", "completion": "b"}'.encode("utf-16"))
    assert codes(check_files(path)) == [("decoded", 0)]
    path.write_bytes(b"\n\n")
    assert codes(check_files(path)) == [("empty-file", 0)]
    named = tmp_path / "t.json"
    write(named, [row("a", "b")])
    assert codes(check_files(named)) == [("file-extension", 0)]


def test_all_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_files(tmp_path / "a", tmp_path / "b", model=SCOUT, mode="FULL")
    assert len(caught.value.problems) == 3


def test_the_quickstart_dataset_is_clean() -> None:
    data = ROOT / "runner" / "quickstart" / "data"
    report = check_files(data / "train.jsonl", data / "validation.jsonl", model=LLAMA)
    assert report.findings == []
    assert report.training.kept == 320
