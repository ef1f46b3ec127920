"""What fuzzing has found stays mended, and the driver finds what crashes and what hangs."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.fuzz import driver
from benchmarks.fuzz.targets import TARGETS


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.training] if name == "checkpoints" else []) for name in TARGETS]
)
def test_what_was_found_stays_mended(name: str) -> None:
    outcome = driver.replay(TARGETS[name]())
    assert outcome.executions >= 3


class Fragile(driver.Target):
    """Takes text, and fails on some."""

    name = "fragile"
    seconds = 0.05

    def seeds(self) -> list[bytes]:
        return [b"a"]

    def broken(self, draw: random.Random, data: bytes) -> bytes:
        return bytes([draw.choice(b"abcd")])

    @contextlib.contextmanager
    def opened(self) -> Iterator[driver.Survive]:
        def survive(data: bytes) -> list[str]:
            if data == b"c":
                raise KeyError(data)
            if data == b"d":
                sum(range(6_000_000))
            return [data.decode()]

        yield survive


def test_the_driver_keeps_each_finding_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "CORPUS", tmp_path)
    outcome = driver.fuzz(Fragile(), seconds=6, seed=1, keep=True)
    assert sorted(path.read_bytes() for path in outcome.findings) == [b"c", b"d"]
    assert sorted(path.read_bytes() for path in (tmp_path / "fragile").glob("new-*")) == [b"b"]
    with pytest.raises((KeyError, driver.HungError)):
        driver.replay(Fragile())
