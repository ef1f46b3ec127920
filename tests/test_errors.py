"""docs/errors.md and the error classes say the same."""

from __future__ import annotations

import copy
import importlib
import inspect
import pickle
import pkgutil
import re
import traceback
from pathlib import Path
from typing import Any

import pytest

import infra.automation
import runner
from runner.errors import ConfigurationError, DatasetError, DiskError, OutputTakenError, RunnerError, require_sound

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


@pytest.mark.parametrize("error", [ConfigurationError, OutputTakenError])
def test_a_single_mistake_is_among_the_problems_too(error: type[ConfigurationError]) -> None:
    assert error("there is no such file").to_json()["problems"] == ["there is no such file"]


def test_a_message_names_the_first_of_many_problems_and_the_error_has_all() -> None:
    require_sound([])
    problems = [f"line {number} is wrong" for number in range(1, 13)]
    with pytest.raises(ConfigurationError) as caught:
        require_sound(problems, hint="mend them")

    assert caught.value.problems == problems
    assert caught.value.message.endswith("line 10 is wrong; and 2 more")
    assert caught.value.hint == "mend them"


def test_every_error_passes_between_processes_and_says_its_hint_in_a_traceback() -> None:
    for kind in _classes(RunnerError):
        parameters = inspect.signature(kind).parameters
        given: dict[str, Any] = {
            name: [] for name, item in parameters.items() if item.default is item.empty and name != "message"
        }
        if "message" not in parameters:
            continue  # is made of what it tells of
        error = kind("failed", hint="mend it", **given) if "hint" in parameters else kind("failed", **given)
        error.hint = "mend it"

        again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own

        assert (type(again), again.to_json(), str(again)) == (kind, error.to_json(), "failed")
        assert traceback.format_exception_only(again)[-1].strip() == "hint: mend it"
        assert traceback.format_exception_only(copy.copy(error)) == traceback.format_exception_only(error)


def test_a_traceback_names_the_first_findings() -> None:
    findings = [{"file": "a.jsonl", "line": number, "message": "no"} for number in range(1, 13)]
    said = traceback.format_exception_only(DatasetError("12 errors in a.jsonl", findings=findings, hint="mend them"))
    assert "".join(said).splitlines()[1:] == [*(f"a.jsonl:{number}: no" for number in range(1, 11)), "hint: mend them"]


WITHOUT_HINTS = {
    "failed": "failures of many kinds: the message, or a hint of its own, says what to do",
    "configuration": "the message names the mistake; the command line adds the command whose help has examples",
    "google_api": "the service refused what its message names; what passes and what is missing have hints of their own",
}


def test_every_error_code_has_a_hint_or_a_reason_not_to() -> None:
    assert {cls.code for cls in _classes(RunnerError) if not cls.usual_hint} == set(WITHOUT_HINTS)


def test_a_hint_of_its_own_wins() -> None:
    assert (DiskError("x", path="").hint, DiskError("x", path="", hint="y").hint) == (DiskError.usual_hint, "y")
    assert RunnerError("x").hint is None
