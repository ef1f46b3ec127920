"""What docs/reliability.md promises names its tests, and these exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.breaking.flows import FLOWS
from tests.breaking.kinds import KINDS

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "reliability.md").read_text()


def test_every_promise_names_a_test_that_exists() -> None:
    rows = re.findall(r"^\| (\d+) \| (.+) \| (.*) \|$", PAGE, re.MULTILINE)
    assert [int(number) for number, _, _ in rows] == list(range(1, len(rows) + 1))
    assert len(rows) >= 40
    missing = []
    for number, promise, tested in rows:
        named = re.findall(r"`((?:tests|benchmarks)/[^`]+)`", tested)
        assert named or tested.startswith("no: "), f"{number}: {promise} says neither how it is tested nor why not"
        for name in named:
            file, _, function = name.partition("::")
            if not (ROOT / file).is_file() or (function and function not in _functions(ROOT / file)):
                missing.append(f"{number}: {name}")
    assert missing == []


def _functions(path: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}


def test_the_sweep_is_as_large_as_the_page_says() -> None:
    said = re.search(r"(\d+) kinds of faults\b.*?\b(\d+) command lines", PAGE, re.DOTALL)
    assert said is not None
    assert (int(said[1]), int(said[2])) == (len(KINDS), len(FLOWS))
