"""google.rpc.Code is Google's own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from runner.status_codes import HTTP, NAMES, NO_CAPACITY, SERVICE_FAILURES, name_of


def test_names_and_numbers_are_googles() -> None:
    code_pb2 = pytest.importorskip("google.rpc.code_pb2")
    assert {name: number for number, name in enumerate(NAMES)} == dict(code_pb2.Code.items())


@pytest.mark.parametrize(("number", "status"), [(4, 504), (10, 409), (12, 501), (None, 500), (-1, 500), (99, 500)])
def test_a_number_has_an_http_status(number: int | None, status: int) -> None:
    assert HTTP[name_of(number)] == status


def test_the_manual_names_the_failures_that_are_tried_again() -> None:
    manual = (Path(__file__).parents[1] / "docs" / "manifests.md").read_text("utf-8")
    [line] = [line for line in manual.splitlines() if line.startswith("| `platform` | a job that expired")]
    assert set(re.findall(r"`([A-Z_]+)`", line)) == {NAMES[number] for number in {*SERVICE_FAILURES, NO_CAPACITY}}
