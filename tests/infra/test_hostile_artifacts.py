"""What a change hands over is data: reports are bounded and inert, manifests stay in their folder."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.automation import change, report

ROOT = Path(__file__).resolve().parents[2]
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner, max_size=4),
    max_leaves=12,
)
PREVIEWS = st.dictionaries(
    st.sampled_from(["summary", "changes", "diff", "text", "error", "other"]), ANY_JSON, max_size=5
)
NASTY = ("<img src=x onerror=y>", "@ada", "```", "<!-- x -->", "[x](https://e)", "| a |", "\u202e", "\x1b[31m", "#12")


def outside(text: str) -> str:
    """Return a comment without what stands in its fences, which is shown as it is."""
    return re.sub(r"```text\n.*?\n```", "", text, flags=re.DOTALL)


@settings(max_examples=200, deadline=None)
@given(PREVIEWS)
def test_no_document_makes_markup(preview: dict[str, Any]) -> None:
    text = report.comment({"dev": preview})
    rest = outside(text).replace(report.COMMENT_MARK, "")
    assert len(text) < 65_536
    assert text.count("```") == 2
    assert not re.search(r"<(?!/?(details|summary)>)|@|\]\(|\n#(?!# Infra)|https?://", rest), rest
    report.drift({"dev": preview})
    report.counts({"dev": preview})


@pytest.mark.parametrize("nasty", NASTY)
def test_fields_that_are_words_are_words(nasty: str) -> None:
    for preview in (
        {"error": {"code": nasty, "message": nasty}},
        {"summary": {nasty: 1, f"OpType.{nasty}": 2}},
        {"changes": nasty},
        {"summary": {"create": nasty}},
    ):
        rest = outside(report.comment({"dev": preview})).replace(report.COMMENT_MARK, "")
        assert nasty not in rest, preview
        assert nasty not in report.drift({"dev": preview}).split("-->", 1)[-1]


def test_files_are_bounded_and_regular(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "LARGEST", 1000)
    (tmp_path / "secret").write_text(json.dumps({"changes": 7}))
    (tmp_path / "preview-link.json").symlink_to(tmp_path / "secret")
    (tmp_path / "preview-large.json").write_text(json.dumps({"text": "x" * 2000}))
    (tmp_path / "preview-deep.json").write_text("[" * 900)
    (tmp_path / "preview-text.json").write_text("no JSON")
    os.mkfifo(tmp_path / "preview-pipe.json")
    (tmp_path / "preview-<b>.json").write_text("{}")
    (tmp_path / "preview-a|b.json").write_text("{}")
    (tmp_path / "preview-good.json").write_text(json.dumps({"changes": 0}))
    found = report.read([tmp_path])
    assert {name for name, body in found.items() if "error" in body} == {"link", "large", "deep", "text", "pipe"}
    assert set(found) == {"link", "large", "deep", "text", "pipe", "good"}
    for index in range(100):
        (tmp_path / f"preview-{index}.json").write_text("{}")
    assert len(report.read([tmp_path])) == report.MOST


def test_no_preview_is_no_peace(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "infra.automation.report", "drift", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "no result" in done.stdout


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200))
def test_markdown_of_plans_is_inert(text: str) -> None:
    made = report.markdown(text, "<!-- m -->")
    assert not re.search(r"<(?!/?(details|summary|br)>|!-- m -->)|@|!\[|\]\(|://|\x1b|\u202e", made)


def test_a_plan_keeps_its_table_and_loses_the_rest() -> None:
    text = "| + | a |\n<details><summary>x</summary>" + "".join(NASTY) + "</details>" + "y" * 100_000
    made = report.markdown(text, "<!-- m -->")
    assert made.startswith("<!-- m -->\n| + | a |\n<details><summary>x</summary>&#60;img")
    assert len(made) < 65_536


MANIFEST = "apiVersion: open-model-tuning/v1\nspec:\n  data:\n    train: {}\n"


def folder(tmp_path: Path, train: str = "data/train.jsonl") -> Path:
    source = tmp_path / "change"
    (source / "data").mkdir(parents=True)
    (source / "data" / "train.jsonl").write_text("{}")
    (source / "job.yaml").write_text(MANIFEST.format(train))
    return source


@pytest.mark.parametrize("train", ["data/train.jsonl", "gs://bucket/train.jsonl", "what now..", "./data/x.jsonl"])
def test_manifests_of_a_change_are_taken(tmp_path: Path, train: str) -> None:
    source = folder(tmp_path, train)
    assert change.main([str(source), str(tmp_path / "jobs")]) == 0
    assert (tmp_path / "jobs" / "job.yaml").read_text() == (source / "job.yaml").read_text()


@pytest.mark.parametrize(
    "train",
    [
        "/proc/self/environ", "../../gha-creds.json", "data/../../x", "~/x", "..", "file:///etc/passwd", "https://e/x",
        "'/etc/passwd'", '"\\x2fetc/passwd"', "|\n      /etc/passwd", "&a /etc/passwd", "[/etc/passwd]", " /etc/x",
        "data\\\\..\\\\x",
    ],
)  # fmt: skip
def test_nothing_leads_out_of_the_folder(tmp_path: Path, train: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert change.main([str(folder(tmp_path, train)), str(tmp_path / "jobs")]) == 1
    assert "job.yaml" in capsys.readouterr().err
    assert not (tmp_path / "jobs").exists()


def test_links_and_programs_are_refused_all_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = folder(tmp_path)
    (source / "link.yaml").symlink_to("/etc/passwd")
    (source / "more").symlink_to("/etc")
    (source / "runner.py").write_text("print('here')")
    os.mkfifo(source / "pipe.jsonl")
    (source / "bad.yaml").write_text("a: !!binary L2V0Yy9wYXNzd2Q=")
    assert change.main([str(source), str(tmp_path / "jobs")]) == 1
    said = capsys.readouterr().err
    assert [
        name for name in ("link.yaml", "more", "runner.py", "pipe.jsonl", "bad.yaml") if f"{name}:" not in said
    ] == []


def test_a_change_that_takes_the_folder_away_has_no_manifests(tmp_path: Path) -> None:
    assert change.main([str(tmp_path / "none"), str(tmp_path / "jobs")]) == 0
    assert list((tmp_path / "jobs").iterdir()) == []


def test_size_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = folder(tmp_path)
    monkeypatch.setattr(change, "MOST_BYTES", 3)
    monkeypatch.setattr(change, "MOST_FILES", 1)
    assert len(change.problems(source)) == 2
