r"""Texts that were escaped twice are told from code, paths, patterns and LaTeX, which hold `\n` for other reasons."""

from __future__ import annotations

import importlib.metadata
import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest

from runner.datasets.checking.ranges import Settings, totals_of_range
from runner.datasets.rules.texts import has_escaped_line_ends

TWICE = [
    "one\ntwo\nthree",
    "one\r\ntwo",
    "Here is a list:\n\n- one\n- two",
    "It is late.\nGo home.",
    "First,\n1. wash\n2. dry",
    "# Title\n\nText of a paragraph.\n",
    'He said "no".\n\nThen he left.\nShe stayed.',
]
OTHER = [
    "one",
    "one\ntwo\nthree",
    r"Use \n to end a line.",
    r"The escape \n is a line feed, and \t a tab.",
    r'print("one\ntwo\n")',
    r"'\n'.join(lines)",
    r"the pattern [^\n]+ matches a line",
    r"\d+\n\d+",
    r"C:\new\names\notes.txt",
    r"\\server\new\names",
    r"$a \neq b$ and $\nabla f = 0$",
    r"x\neq y\neq z",
    r"the index \nu and the index \nu",
    r"a folder docs\new",
    "a real end\nand a literal \\n and another\\nhere",
]


@pytest.mark.parametrize("text", TWICE)
def test_texts_escaped_twice_are_found(text: str) -> None:
    escaped = text.replace("\r", "\\r").replace("\n", "\\n")
    assert has_escaped_line_ends(escaped)
    assert not has_escaped_line_ends(text)


@pytest.mark.parametrize("text", OTHER)
def test_other_texts_are_left_alone(text: str) -> None:
    assert not has_escaped_line_ends(text)


def lines_of_documents() -> list[str]:
    """Return paragraphs, each on a line, of what installed packages say of themselves."""
    found: list[str] = []
    for package in importlib.metadata.distributions():
        for part in re.split(r"\n\s*\n", package.metadata.get_payload() or ""):  # type: ignore[attr-defined]
            found.append(" ".join(part.split()))
    return [text for text in found if text]


def test_real_text_raises_few_false_alarms_and_is_found_when_it_is_escaped_twice() -> None:
    paragraphs = lines_of_documents()
    alarms = [text for text in paragraphs if has_escaped_line_ends(text)]
    assert len(paragraphs) > 500
    assert len(alarms) <= len(paragraphs) / 1000
    prose = [text for text in paragraphs if re.fullmatch(r"[\w ,.'-]{20,}\.", text)]
    pairs = list(itertools.pairwise(prose))
    assert len(pairs) > 20
    assert all(has_escaped_line_ends(f"{first}\\n\\n{second}") for first, second in pairs)


@pytest.mark.parametrize("form", ["chat", "prompt_completion"])
def test_a_check_warns_whichever_reader_reads(form: str, tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    rows = [("q1", "one\\ntwo\\nthree"), ("q2", "one\ntwo"), ("q3", "one\\r\\ntwo"), ("q4", "use \\n here")]
    with path.open("w") as file:
        for prompt, answer in rows:
            turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
            row = {"messages": turns} if form == "chat" else {"prompt": prompt, "completion": answer}
            file.write(json.dumps(row) + "\n")
    readers: list[dict[str, Any]] = [{}, {"compiled": False}]
    for options in readers:
        found = totals_of_range(path, 0, path.stat().st_size, Settings(ratio=0.25, **options))
        assert [(finding.code, finding.line) for finding in found.findings] == [
            ("escaped-newline", 1),
            ("escaped-newline", 3),
        ]
