"""Requests of the tests wait long enough for a busy machine: httpx's five seconds are not enough."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent
_CALLS = frozenset(
    {"Client", "AsyncClient", "get", "post", "put", "patch", "delete", "head", "options", "request", "stream"}
)


def _impatient(path: Path) -> Iterator[str]:
    """Yield the calls of httpx in a file that use its own timeout."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        of = node.func.value
        named = {keyword.arg for keyword in node.keywords}
        # `**options` can contain one.
        if isinstance(of, ast.Name) and of.id == "httpx" and node.func.attr in _CALLS and not named & {"timeout", None}:
            yield f"{path.relative_to(TESTS)}:{node.lineno}"


def test_every_request_has_a_timeout_of_its_own() -> None:
    assert [place for path in TESTS.rglob("*.py") for place in _impatient(path)] == []
