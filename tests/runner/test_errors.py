"""docs/errors.md and the error classes say the same."""

from __future__ import annotations

import re
from pathlib import Path

import runner.catalog
from runner.errors import RunnerError

DOCUMENT = Path(__file__).parents[2] / "docs" / "errors.md"


def _classes(base: type[RunnerError]) -> list[type[RunnerError]]:
    return [base, *(found for child in base.__subclasses__() for found in _classes(child))]


def test_every_error_is_documented_with_its_exit_code() -> None:
    assert runner.catalog.UnknownModelError in _classes(RunnerError)
    documented = set(re.findall(r"^\| (\d+) \| `(\w+)` \|", DOCUMENT.read_text(), re.MULTILINE))

    assert {(str(cls.exit_code), cls.code) for cls in _classes(RunnerError)} == documented
