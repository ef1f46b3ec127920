"""From the command to the request: the modules that ARCHITECTURE.md names, each called by the one before it."""

from __future__ import annotations

import itertools
import re
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from tests.cli.invocation import CommandLine
from tests.projects import MODEL

ARCHITECTURE = Path(__file__).parents[3] / "ARCHITECTURE.md"


def _named() -> list[str]:
    """Return the modules on the call stack of the request, as the document lists them."""
    (words,) = re.findall(
        r"The call stack of that `POST` has seven modules: (.*?)\.\s", ARCHITECTURE.read_text(), re.DOTALL
    )
    return re.findall(r"`([a-z_.]+)`", words)


def _modules(frame: FrameType | None) -> list[str]:
    found = []
    while frame is not None:
        name = str(frame.f_globals.get("__name__", ""))
        found += [name.removeprefix("runner.").removeprefix("jobs.")] if name.startswith("runner.") else []
        frame = frame.f_back
    return [name for name, _ in itertools.groupby(reversed(found))]


def test_a_submission_reaches_its_request_without_going_back(idle: CommandLine, tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text("".join(f'{{"prompt": "What is {n}?", "completion": "It is."}}\n' for n in range(20)))
    stacks: list[list[str]] = []

    def look(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code.co_name == "create" and frame.f_globals["__name__"].endswith("tuning_jobs"):
            stacks.append(_modules(frame))

    sys.setprofile(look)
    try:
        done = idle("jobs", "submit", "--model", MODEL, "--train", str(path), "--epochs", "1", "--yes")
    finally:
        sys.setprofile(None)

    assert done.code == 0, done.err
    assert stacks == [_named()]
    assert len(set(stacks[0])) == len(stacks[0])
