"""docs/errors.md and the error classes say the same."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path

import infra.automation
import runner
from runner.errors import RunnerError

DOCUMENT = Path(__file__).parents[1] / "docs" / "errors.md"


def _classes(base: type[RunnerError]) -> list[type[RunnerError]]:
    return [base, *(found for child in base.__subclasses__() for found in _classes(child))]


def test_every_error_is_documented_with_its_exit_code() -> None:
    for module in pkgutil.walk_packages(runner.__path__, "runner."):
        if not module.name.startswith("runner.emulator") and not module.name.endswith("__main__"):
            importlib.import_module(module.name)  # an error is known only once its module is loaded
    for module in pkgutil.walk_packages(infra.automation.__path__, "infra.automation."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    documented = set(re.findall(r"^\| (\d+) \| `(\w+)` \|", DOCUMENT.read_text(), re.MULTILINE))

    assert {(str(cls.exit_code), cls.code) for cls in _classes(RunnerError)} == documented
