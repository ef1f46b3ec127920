"""Fixtures for pytest, which finds them automatically when this package is installed.

`tuning_emulator` is one emulator for the whole run, started by the first test that uses it; `tuning_session` is a
connection to it. `--tuning-stand-in smollm2` selects a pretrained model.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from runner.gcp.session import Session
    from runner.testing import RunningEmulator


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option for the stand-in."""
    parser.getgroup("open-model-tuning").addoption(
        "--tuning-stand-in",
        choices=["tiny", "smollm2", "auto"],
        default="tiny",
        help="small model that the emulator of the fixture tuning_emulator tunes [tiny]",
    )


@pytest.fixture(scope="session")
def tuning_emulator(request: pytest.FixtureRequest) -> Iterator[RunningEmulator]:
    """A running emulator with a project, where `import runner` and the command line work."""
    from runner.testing import emulator

    stand_in: Any = request.config.getoption("--tuning-stand-in")
    with emulator(stand_in=stand_in) as running:
        yield running


@pytest.fixture
def tuning_session(tuning_emulator: RunningEmulator) -> Iterator[Session]:
    """A connection to the emulator, for functions with a `session` argument."""
    with tuning_emulator.connect() as session:
        yield session
