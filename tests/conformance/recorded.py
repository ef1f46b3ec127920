"""A pytest plugin: every exchange of every test with an emulator is held against Google's definitions.

The test that is running when a violation is found fails when it ends.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.emulator.recording import VARIABLE


class _Reader:
    """Reads what the emulators' processes have added to their files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._offsets: dict[Path, int] = {}

    def lines(self) -> Iterator[bytes]:
        for path in sorted(self.directory.glob("*.jsonl")):
            with path.open("rb") as file:
                file.seek(self._offsets.get(path, 0))
                added = file.read()
            whole = added[: added.rfind(b"\n") + 1]
            self._offsets[path] = self._offsets.get(path, 0) + len(whole)
            yield from whole.splitlines()


@pytest.fixture(autouse=True, scope="session")
def exchanges_recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Reader]:
    """Record what emulators of this process and of its children answer."""
    directory = tmp_path_factory.mktemp("exchanges")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, str(directory))
        yield _Reader(directory)


@pytest.fixture(autouse=True)
def exchanges_conform(exchanges_recorded: _Reader) -> Iterator[None]:
    """Fail the test if Google's definitions do not allow what was said during it."""
    yield
    from tests.conformance.definitions import violations

    found = [fault for line in exchanges_recorded.lines() for fault in violations(json.loads(line))]
    assert not found, "\n".join(dict.fromkeys(found))
