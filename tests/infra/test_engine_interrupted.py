"""The real engine, stopped, killed and cut off: it ends as it does in a terminal, and the next `up` ends green."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.embedded import apply
from runner.emulator.server import EmulatorServer
from runner.emulator.settings import EmulatorSettings
from tests.infra.cutting import Cutting
from tests.infra.stack_sweep import inventory
from tests.infra.test_engine_alone import plugins
from tests.infra.test_engine_failures import Real, needs_engine

PROJECT = "engine-stopped"
POINTS = [int(text) for text in os.environ.get("SWEEP_ENGINE", "9,22").split(",")]
"""Requests at which the conversation is cut, of those that change something."""

pytestmark = [pytest.mark.engine, needs_engine]


class Checkout(Real):
    """A checkout of its own, whose stack talks to an emulator through a server that can cut the conversation."""

    def __init__(self, folder: Path, url: str, cutting: Cutting, project: str = PROJECT) -> None:
        (folder / "checkout").mkdir(parents=True)
        super().__init__(folder / "checkout")
        self.url, self.cutting, self.project = url, cutting, project
        self.variables["PATH"] = plugins(folder / "bin")
        file = self.folder / "Pulumi.local.yaml"
        text = file.read_text().replace("http://127.0.0.1:8085", cutting.url).replace("local-project", project)
        file.write_text(text)

    def start(self) -> subprocess.Popen[str]:
        """Start `runner infra up`."""
        command = [sys.executable, "-m", "runner", "--yes", "--format", "json", "infra", "up", "--stack", "local"]
        return subprocess.Popen(
            [*command, "--directory", str(self.folder)],
            env={**os.environ, **self.variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def reach(self, process: subprocess.Popen[str], changes: int) -> None:
        """Wait until the engine has changed so much."""
        deadline = time.monotonic() + 120
        while len(self.cutting.changes) < changes:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline, self.cutting.changes
            time.sleep(0.01)

    def state(self) -> dict[str, Any]:
        done = subprocess.run(
            ["pulumi", "stack", "export", "--stack", "local"],
            cwd=self.folder,
            env={**os.environ, **self.variables},
            capture_output=True,
            text=True,
            check=True,
        )
        return dict(json.loads(done.stdout)["deployment"])

    def locks(self) -> list[Path]:
        return list((self.folder / "state" / ".pulumi" / "locks").rglob("*.json"))

    def settled(self) -> Any:
        """Apply until the end, and return what there is; nothing is left to do then."""
        answer = self.run("up", "--confirmed")
        assert "result" in answer, answer
        again = self.run("preview", "--expect-no-changes")
        assert "result" in again, again
        return inventory(self.url, self.project)


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    settings = EmulatorSettings(directory=tmp_path / "emulator", stand_in="tiny")
    with EmulatorServer(settings) as server, Cutting(server.url) as cutting:
        yield Checkout(tmp_path, server.url, cutting)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_engine_finishes_what_it_began(number: signal.Signals, checkout: Checkout) -> None:
    process = checkout.start()
    checkout.reach(process, 8)
    process.send_signal(number)
    said, complained = process.communicate(timeout=120)
    assert process.returncode == 130, (said, complained)
    error = json.loads(complained.splitlines()[-1])["error"]
    assert error["code"] == "interrupted"
    assert "runner infra up --stack local" in error["hint"]
    assert "Traceback" not in complained
    assert "Updating (local)" in complained  # what the engine said is not lost
    assert checkout.locks() == []
    assert not checkout.state().get("pending_operations")
    checkout.settled()


def test_after_a_kill_the_lock_is_explained_and_the_next_one_ends_green(checkout: Checkout) -> None:
    process = checkout.start()
    checkout.reach(process, 12)
    for pid in reversed(family(process.pid)):
        os.kill(pid, signal.SIGKILL)
    process.communicate()  # which closes its pipes
    locked = checkout.run("up", "--confirmed")["error"]
    assert "which is gone: `pulumi cancel --stack local --yes` removes the lock" in locked["hint"], locked
    subprocess.run(
        ["pulumi", "cancel", "--stack", "local", "--yes"],
        cwd=checkout.folder,
        env={**os.environ, **checkout.variables},
        check=True,
        capture_output=True,
    )
    checkout.settled()


def family(pid: int) -> list[int]:
    """Return a process and all that it started, and what those started."""
    found = [pid]
    for parent in found:
        done = subprocess.run(["pgrep", "-P", str(parent)], capture_output=True, text=True, check=False)
        found += [int(word) for word in done.stdout.split()]
    return found


@pytest.mark.parametrize("at", POINTS)
def test_after_a_lost_answer_the_next_one_ends_green(at: int, checkout: Checkout) -> None:
    checkout.cutting.arm(at, "after")
    failed = checkout.run("up", "--confirmed")
    assert "error" in failed, checkout.cutting.cut
    assert "up of stack local failed" in failed["error"]["message"], failed
    checkout.cutting.arm(None)
    checkout.settled()


def test_plain_pulumi_says_how_to_take_in_what_is_there(checkout: Checkout, tmp_path: Path) -> None:
    apply(checkout.url, project=PROJECT, state=tmp_path / "other.json")
    (checkout.folder / "state").mkdir(exist_ok=True)
    variables = {**os.environ, **checkout.variables, "PULUMI_GCP_SKIP_REGION_VALIDATION": "true"}
    variables["PULUMI_PYTHON_CMD"] = sys.executable

    def pulumi(*arguments: str) -> str:
        command = ["pulumi", *arguments, "--stack", "local", "--non-interactive", "--color", "never"]
        done = subprocess.run(command, cwd=checkout.folder, env=variables, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    pulumi("stack", "init")
    said = pulumi("up", "--yes", "--skip-preview", "--continue-on-error")
    commands = [shlex.split(line) for line in re.findall(r"pulumi import .*--yes", said)]
    assert {command[2].rsplit(":", 1)[-1] for command in commands} >= {"Bucket", "AiEndpoint", "IAMCustomRole"}, said
    known = {item["urn"] for item in checkout.state()["resources"]}
    for command in commands:
        for option in ("--parent", "--provider"):
            assert command[command.index(option) + 1].partition("=")[2] in known
