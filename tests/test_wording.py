"""Words and sums that every command, page and report shares."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.gcp.endpoints import Endpoint
from runner.prices import from_a_cent, total
from runner.serving.labels import LABELS, new_id
from runner.serving.listing import describe
from runner.wording import state_words


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("JOB_STATE_RUNNING", "running"),
        ("JOB_STATE_PARTIALLY_SUCCEEDED", "partially succeeded"),
        ("TUNING_JOB_STATE_WAITING_FOR_QUOTA", "waiting for quota"),
        ("TUNING_JOB_STATE_TUNING", "tuning"),
        ("queued", "queued"),
    ],
)
def test_states_are_spelled_in_words(state: str, words: str) -> None:
    assert state_words(state) == words


@pytest.mark.parametrize(
    ("usd", "said"),
    [(0.0, "$0.00"), (0.0049, "less than $0.01"), (0.007, "less than $0.01"), (0.01, "$0.010"), (2, "$2.00")],
)
def test_less_than_a_cent_is_said_to_be_that(usd: float, said: str) -> None:
    assert from_a_cent(usd) == said


def test_a_sum_with_an_unknown_price_is_unknown() -> None:
    assert (total([]), total([1.0, 0.5]), total([1.0, None])) == (0.0, 1.5, None)
    assert isinstance(total([]), float)  # as JSON has always had it: 0.0


def test_an_endpoint_is_ours_by_its_id_until_it_has_its_label() -> None:
    def ours(identifier: str, labels: dict[str, str]) -> bool:
        return describe(Endpoint(name=f"e/{identifier}", id=identifier, display_name="", labels=labels)).ours

    assert ours(new_id(), {})
    assert ours("1234567890", dict(LABELS))
    assert not ours("1234567890", {})


def test_money_is_put_in_words_in_one_place() -> None:
    """So that nothing that costs a tenth of a cent is ever said to cost $0.00."""
    runner_package = Path(__file__).parents[1] / "runner"
    found = [
        f"{path.relative_to(runner_package)}:{node.lineno}"
        for path in runner_package.rglob("*.py")
        if path.name != "prices.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.JoinedStr)
        for before, value in itertools.pairwise(node.values)
        if isinstance(before, ast.Constant)
        and str(before.value).endswith("$")
        and isinstance(value, ast.FormattedValue)
        if value.format_spec is not None
    ]
    assert found == []


def test_percentages_are_written_in_one_way() -> None:
    """`25%`, as Google's style guide has it."""
    runner_package = Path(__file__).parents[1] / "runner"
    found = [
        f"{path.name}: {line.strip()}"
        for path in (runner_package / "console" / "templates").rglob("*.html")
        for line in path.read_text("utf-8").splitlines()
        if re.search(r"(}}|[0-9]) %(?!})", line)
    ]
    for path in runner_package.rglob("*.py"):
        if "emulator" in path.parts:
            continue
        tree = ast.parse(path.read_text())
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant | ast.JoinedStr) and id(node) not in docstrings:
                found += [f"{path.name}:{node.lineno}" for _ in re.findall(r"[0-9}] %(?![a-z(0-9])", ast.unparse(node))]
    assert found == []


OF_OTHER_PROGRAMS = {
    "serving/plan.py": "arguments of a server",
    "serving/idle_guard.py": "a program of its own",
    "serving/guard_function.py": "arguments of that program",
    "serving/billed.py": "a command line of bq",
    "serving/export.py": "a README with command lines of other programs",
}


def test_serving_names_no_options_of_the_command_line() -> None:
    """Its messages are also those of pages and programs; `errors.Problem` lets the command line add its options.

    Whole command lines, which stand between backticks, and hints may have options.
    """
    package = Path(__file__).parents[1] / "runner"
    found = []
    for path in sorted((package / "serving").rglob("*.py")):
        tree = ast.parse(path.read_text())
        spared = {id(part) for node in ast.walk(tree) for part in _spared(node)}
        for node in ast.walk(tree):
            text = _text_of(node)
            if id(node) in spared or not re.search(r"(?<![\w-])--[a-z]", re.sub(r"`[^`]*`", "", text)):
                continue
            if str(path.relative_to(package)) not in OF_OTHER_PROGRAMS:
                found.append(f"{path.relative_to(package)}:{node.lineno}: {text}")  # type: ignore[attr-defined]
    assert found == []


def _text_of(node: ast.AST) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _spared(node: ast.AST) -> Iterator[ast.AST]:
    """Yield docstrings, hints, and the parts of texts that have values in them."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        yield node.value
    if isinstance(node, ast.JoinedStr):
        yield from (part for part in ast.walk(node) if part is not node)
    hint = isinstance(node, ast.keyword) and node.arg == "hint"
    if hint or (isinstance(node, ast.Assign) and "hint" in ast.unparse(node.targets[0]).lower()):
        yield from ast.walk(node)
