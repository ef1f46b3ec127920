"""The graph of every committed stack, reviewed as a file: what a change of the program changes shows in its diff.

GOLDEN=write pytest tests/infra/test_goldens.py     writes them anew
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from infra.evaluation import evaluate
from infra.graph import to_json
from infra.stack_files import configuration, stacks

FOLDER = Path(__file__).with_name("golden")


@pytest.mark.parametrize("stack", stacks())
def test_a_stack_is_what_was_reviewed(stack: str) -> None:
    text = json.dumps(to_json(evaluate(configuration(stack))), indent=1, sort_keys=True) + "\n"
    path = FOLDER / f"{stack}.json"
    if os.environ.get("GOLDEN") == "write":
        path.write_text(text, "utf-8")
    assert path.read_text("utf-8") == text


def test_every_golden_has_its_stack() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.json")) == stacks()


def test_a_program_can_be_evaluated_after_an_event_loop_was_closed() -> None:
    async def nothing() -> None:
        pass

    asyncio.run(nothing())
    assert evaluate(configuration("local")).resources
