"""Every code that a command can print is explained by the installed package, from the documents."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from runner import explanations
from tests.cli.invocation import CommandLine

ROOT = Path(__file__).parents[2]
CODES = [item.name for item in explanations.every() if item.kind == "finding"]


def test_every_row_of_the_documents_is_found() -> None:
    known = explanations.every()
    rows = re.findall(r"^\| \d+ \|", explanations.document("errors"), re.MULTILINE)
    assert len([item for item in known if item.kind in ("error", "exit code")]) == len(rows)
    rows = re.findall(
        r"^\| `[a-z0-9-]+` \| (?:error|warning) \|", explanations.document("dataset-format"), re.MULTILINE
    )
    assert len(CODES) == len(rows) > 50
    assert len({(item.name, item.kind) for item in known}) == len(known)


@pytest.mark.parametrize("code", CODES)
def test_a_finding_has_its_meaning_and_two_files(code: str) -> None:
    (found,) = explanations.explain(code)
    assert found.means
    assert "Bad" in found.examples
    assert "Good" in found.examples
    assert "\n## " not in found.examples


def test_every_document_that_a_message_names_is_there() -> None:
    names = set(explanations.documents()) | {item.name for item in explanations.every()}
    for path in (ROOT / "runner").rglob("*.py"):
        text = path.read_text("utf-8")
        for name in re.findall(r"`runner explain ([a-z][\w-]*)`", text):
            assert name in names, f"{path}: {name}"


def test_no_message_names_a_file_that_a_wheel_lacks() -> None:
    found = []
    for path in sorted((ROOT / "runner").rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        silent = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in silent:
                found += [
                    f"{path.relative_to(ROOT)}:{node.lineno}" for _ in re.findall(r"\bdocs/[\w-]+\.md", node.value)
                ]
    # The reference is a document itself; the address in a SARIF file is relative to the repository that is checked.
    assert [place for place in found if "cli/reference.py" not in place and "reports/exports.py" not in place] == []


def test_it_is_said_as_people_type_it(run: CommandLine) -> None:
    assert "over-length (warning of a dataset)" in run("explain", "over-length").out
    assert run("explain", "OVER-LENGTH", "--json").document[0]["kind"] == "finding"
    assert {item["name"] for item in run("explain", "2", "--json").document} >= {"configuration", "unknown_model"}
    assert run("explain", "cost-refused").code == 0
    assert run("explain", "docs/faults.md").out.startswith("# Faults")
    wrong = run("explain", "over-lenght")
    assert (wrong.code, "`runner explain over-length`" in wrong.err) == (2, True)
    assert "cost_refused" in run("explain", "-q").out.split()
