"""Plain REST for the control plane's tests."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from runner.emulator.server import EmulatorServer
from tests.loopback import NO_TLS

_numbers = itertools.count(1)

Call = Callable[..., Any]


@pytest.fixture
def bare(emulator: EmulatorServer) -> str:
    """The id of a project that nothing was done to yet."""
    return f"bare-{os.getpid()}-{next(_numbers)}"


@pytest.fixture
def client(emulator: EmulatorServer) -> Iterator[httpx.Client]:
    """A client of the emulator."""
    with httpx.Client(base_url=emulator.url, timeout=120, verify=NO_TLS) as opened:
        yield opened


@pytest.fixture
def call(client: httpx.Client) -> Call:
    """`call(method, path, body, expect=200, headers=None)` returns the answer's JSON, {} without one."""

    def send(method: str, path: str, body: Any = None, expect: int = 200, headers: dict[str, str] | None = None) -> Any:
        response = client.request(method, path, json=body, headers=headers)
        assert response.status_code == expect, f"{method} {path}: {response.status_code} {response.text}"
        return response.json() if response.content else {}

    return send
