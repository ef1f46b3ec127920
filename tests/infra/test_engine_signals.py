"""The real engine under signals: `runner infra up` ends as plain `pulumi up` does, but for its exit status.

The engine is Pulumi's own; its language host and its provider are those of `tests.infra.engine_plugins`: how Google's
provider ends the requests that it has begun is not tested.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from runner.emulator.server import EmulatorServer
from runner.emulator.settings import EmulatorSettings
from tests.gcp.corrupting import Exchange
from tests.infra.cutting import Cutting
from tests.infra.test_engine_failures import needs_engine
from tests.infra.test_engine_interrupted import Checkout, family

pytestmark = [pytest.mark.engine, needs_engine]

PLAIN = ["pulumi", "up", "--yes", "--skip-preview", "--stack", "local", "--non-interactive", "--color", "never"]
OURS = [sys.executable, "-m", "runner", "--yes", "infra", "up", "--stack", "local", "--directory", "."]
CANCELLING, TERMINATING = "received; cancelling", "received; terminating"
"""What the engine says of the first signal and of the second."""


@dataclass
class Kept:
    """Keeps back the answers that say that a bucket was made."""

    asked: threading.Event = field(default_factory=threading.Event)
    answered: threading.Event = field(default_factory=threading.Event)

    def __call__(self, exchange: Exchange) -> bool:
        if exchange.method == "POST" and exchange.path.startswith("/storage/v1/b?"):
            self.asked.set()
            self.answered.wait()
        return False


@dataclass
class Left:
    """What a stopped `up` leaves."""

    alive: list[int]
    locks: int
    pending: set[str]
    """What was being done, by the state."""
    lost: set[str]
    """Buckets that it has made and the state does not have."""


@dataclass
class Run:
    """An `up` of a new stack, one of whose buckets is made and not answered for yet."""

    checkout: Checkout
    process: subprocess.Popen[bytes]
    output: Path
    kept: Kept
    everyone: list[int]
    """The process, and all that it has started."""

    def said(self) -> str:
        return self.output.read_text("utf-8", "replace")

    def stop(self, number: signal.Signals, words: str) -> None:
        """Send a signal, SIGINT to all of the group, as a terminal does; wait until the engine says so."""
        if number == signal.SIGINT:
            os.killpg(self.process.pid, number)
        else:
            self.process.send_signal(number)
        deadline = time.monotonic() + 120
        while words not in self.said():
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.02)

    def end(self) -> tuple[int, Left]:
        """Wait for its end; return its status and what it leaves."""
        status = self.process.wait(200)
        state = self.checkout.state()
        left = Left(
            alive=[pid for pid in self.everyone if Path(f"/proc/{pid}").exists()],
            locks=len(self.checkout.locks()),
            pending={item["type"] for item in state.get("pending_operations") or []},
            lost=self._buckets() - {item.get("id") for item in state["resources"]},
        )
        return status, left

    def _buckets(self) -> set[str]:
        """Return the buckets that there are."""
        address = f"{self.checkout.url}/storage/v1/b?project={self.checkout.project}"
        return {item["name"] for item in httpx.get(address, trust_env=False, timeout=120).json()["items"]}


@contextmanager
def started(folder: Path, server: EmulatorServer, command: list[str]) -> Iterator[Run]:
    """Start a command on a stack of its own, and wait until it makes a bucket."""
    kept, output = Kept(), folder / "output"
    with Cutting(server.url) as cutting:
        cutting.answer = kept
        checkout = Checkout(folder, server.url, cutting, project=f"engine-{folder.name}")
        variables = {
            **os.environ,
            **checkout.variables,
            "PULUMI_GCP_SKIP_REGION_VALIDATION": "true",
            "PULUMI_PYTHON_CMD": sys.executable,
        }
        stack = ["pulumi", "stack", "init", "local", "--non-interactive"]
        subprocess.run(stack, cwd=checkout.folder, env=variables, check=True, capture_output=True)
        with output.open("wb") as file:
            process = subprocess.Popen(
                command,
                cwd=checkout.folder,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                process_group=0,
            )
        try:
            while not kept.asked.wait(0.1):
                assert process.poll() is None, output.read_text()
            everyone = family(process.pid)
            assert len(everyone) > 3, "the engine, its host, its provider and the program"
            yield Run(checkout, process, output, kept, everyone)
        finally:
            kept.answered.set()
            process.kill()
            process.wait()


def plain_and_ours(folder: Path) -> Iterator[Run]:
    """Yield an `up` of plain Pulumi, then one of the runner; each is there until the next is asked for."""
    with EmulatorServer(EmulatorSettings(directory=folder / "emulator", stand_in="tiny")) as server:
        for name, command in (("plain", PLAIN), ("ours", OURS)):
            with started(folder / name, server, command) as run:
                yield run


NUMBERS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


@NUMBERS
def test_one_signal_has_both_finish_what_they_began(number: signal.Signals, tmp_path: Path) -> None:
    ends = []
    for run in plain_and_ours(tmp_path):
        run.stop(number, CANCELLING)
        assert run.process.poll() is None
        run.kept.answered.set()
        ends.append(run.end())
        assert "update canceled" in run.said()
        assert TERMINATING not in run.said()
    (plain, left), (ours, ours_left) = ends
    assert (plain != 0, ours) == (True, 130)
    assert left == ours_left == Left(alive=[], locks=0, pending=set(), lost=set())
    assert "stopping: operations that have started finish first" in run.said()


@NUMBERS
def test_two_signals_end_both_at_once_and_the_next_one_is_green(number: signal.Signals, tmp_path: Path) -> None:
    ends = []
    for run in plain_and_ours(tmp_path):
        run.stop(number, CANCELLING)
        run.stop(number, TERMINATING)
        status, left = run.end()  # while the answer is still kept back
        assert len(left.lost) == 1, left
        ends.append((status, left.alive, left.locks, left.pending))
        run.kept.answered.set()
        if number == signal.SIGINT:  # once is enough: what is left is the same
            run.checkout.settled()
    (plain, *left_of_plain), (ours, *left_of_ours) = ends
    assert (plain != 0, ours) == (True, 130)
    assert left_of_plain == left_of_ours == [[], 0, {"creating"}]
    assert "ending at once: the next `up` looks for resources that were being created" in run.said()
