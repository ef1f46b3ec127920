"""Fixtures of the infrastructure's tests."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest

from runner.emulator.server import EmulatorServer
from tests.infra.embedded_stack import Stack

_numbers = itertools.count(1)


@pytest.fixture
def stack(emulator: EmulatorServer, tmp_path: Path) -> Stack:
    return Stack(emulator.url, f"infra-{os.getpid()}-{next(_numbers)}", tmp_path / "state.json")
