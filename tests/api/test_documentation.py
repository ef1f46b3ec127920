"""Examples in docstrings and in docs/python.md run against the emulator."""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path

import pytest

import runner
from tests.provisioning import Provisioned

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "python.md"


def _examples() -> list[doctest.DocTest]:
    found: list[doctest.DocTest] = []
    finder = doctest.DocTestFinder(exclude_empty=True)
    for name in ("connection", "datasets", "tuning", "jobs", "serving"):
        found += finder.find(importlib.import_module(f"runner.api.{name}"))
    ordered = [test for test in found if test.examples]
    return sorted(ordered, key=lambda test: ("tuning" not in test.name, test.name))


@pytest.mark.training
def test_the_examples_of_docstrings_run(here: Provisioned) -> None:
    examples = _examples()
    assert len(examples) >= 6
    for test in examples:
        test.globs["runner"] = runner
        result = doctest.DocTestRunner(verbose=False).run(test)
        assert result.failed == 0, test.name
    runner.get_job().cancel()


@pytest.mark.training
def test_the_page_runs_from_top_to_bottom(here: Provisioned) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) >= 6
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)  # noqa: S102 - our own page


def test_the_page_names_every_name() -> None:
    page = PAGE.read_text()
    assert [name for name in runner.__all__ if not re.search(rf"\b{name}\b", page)] == []
