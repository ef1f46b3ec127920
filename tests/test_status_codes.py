"""google.rpc.Code is Google's own."""

from __future__ import annotations

import pytest

from runner.status_codes import HTTP, NAMES, name_of


def test_names_and_numbers_are_googles() -> None:
    code_pb2 = pytest.importorskip("google.rpc.code_pb2")
    assert {name: number for number, name in enumerate(NAMES)} == dict(code_pb2.Code.items())


@pytest.mark.parametrize(("number", "status"), [(4, 504), (10, 409), (12, 501), (None, 500), (-1, 500), (99, 500)])
def test_a_number_has_an_http_status(number: int | None, status: int) -> None:
    assert HTTP[name_of(number)] == status
