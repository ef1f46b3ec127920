"""Locks that say who holds them, and waits that say what they wait for."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner import locks, waiting
from runner.errors import LockedError
from runner.jobs.submitting.ledger import Ledger

_HOLDS = """
import os, sys
from pathlib import Path
from runner import locks
path = Path(sys.argv[1])
locks.acquire(os.open(path, os.O_RDWR | os.O_CREAT), path)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def held(tmp_path: Path) -> Iterator[tuple[Path, subprocess.Popen[str]]]:
    """A file whose lock another process holds until its standard input is closed."""
    path = tmp_path / "state"
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLDS, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == "held\n"
        yield path, process
        process.stdin.close()


def test_a_lock_that_is_not_given_back_names_who_holds_it(
    held: tuple[Path, subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, process = held
    monkeypatch.setattr(locks, "LONGEST_SECONDS", 0.2)
    descriptor = os.open(path, os.O_RDWR)
    try:
        with pytest.raises(LockedError, match=rf"process {process.pid} .* has held it since .*; nothing was changed"):
            locks.acquire(descriptor, path)
    finally:
        os.close(descriptor)


def test_whoever_waits_for_a_lock_says_so_and_gets_it(
    held: tuple[Path, subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, process = held
    monkeypatch.setattr(waiting, "TELL_SECONDS", 0.05)
    lines: list[str] = []
    told = threading.Event()

    def tell(line: str) -> None:
        lines.append(line)
        told.set()

    descriptor = os.open(path, os.O_RDWR)
    taking = threading.Thread(target=locks.acquire, args=(descriptor, path))
    with waiting.told(tell):
        taking.start()
        assert told.wait(60)
        assert taking.is_alive()
        assert process.stdin is not None
        process.stdin.close()
        taking.join(60)
    os.close(descriptor)
    assert not taking.is_alive()
    assert f"process {process.pid}" in lines[0]
    assert str(path) in lines[0]


def test_two_specifications_do_not_wait_for_each_other(state_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "LONGEST_SECONDS", 0.2)
    with Ledger.open("one") as first, Ledger.open("other") as second:
        first.claiming("one", "p", "me")
        second.claiming("other", "p", "me")
        with pytest.raises(LockedError, match="nothing was submitted"), Ledger.open("one"):
            pass
    with Ledger.open("one") as again:
        assert again.trail("one", "p").unsent == {"me"}


def test_a_short_wait_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "TELL_SECONDS", 60.0)
    lines: list[str] = []
    with waiting.told(lines.append), waiting.waiting("an answer"):
        pass
    assert lines == []
