"""One fork server and one cache of stand-in models for all engine tests of a test process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.emulator.engine.launcher import Launcher
from tests.emulator.engine.serving_processes import LLAMA, Served, served


@pytest.fixture(scope="session")
def launcher() -> Iterator[Launcher]:
    """A launcher that has loaded torch once."""
    launcher = Launcher(training_threads=1)
    yield launcher
    launcher.close()


@pytest.fixture(scope="session")
def model_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for stand-in models, empty at first."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def server(launcher: Launcher, model_cache: Path) -> Iterator[Served]:
    """One serving process of the text stand-in, for the tests that only ask it."""
    with served(launcher, LLAMA, model_cache) as running:
        yield running
