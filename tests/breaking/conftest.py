"""One world for the tests of a process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.breaking.world import Place, World, opened


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """An emulator whose models answer at once, and a proxy in front of it."""
    with opened(tmp_path_factory.mktemp("broken")) as made:
        yield made


@pytest.fixture
def place(world: World) -> Iterator[Place]:
    """A project and a folder of this test's own."""
    made = world.place()
    yield made
    made.close()
