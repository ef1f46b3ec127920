"""Whoever stops `runner infra …` gets 130 whenever that is, and twice is told what that does.

A script that gets both signals is the engine here; without it, it is the program itself.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pulumi
import pytest
from pulumi.runtime.mocks import Mocks

from infra.event_loop import LoopedMonitor, evaluated
from tests.infra.test_engine_failures import ROOT, program

ENGINE = """
case "$1" in
  version) echo v3.274.1 ;;
  refresh)
    trap 'echo stopped >> "$STOPS"; [ "$(wc -l < "$STOPS")" = 2 ] && exit 255' INT
    touch "$STOPS"
    while :; do sleep 0.05; done
    ;;
  *) echo '{"version": 3, "deployment": {"resources": []}}' ;;
esac
"""


NUMBERS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


def reach(process: subprocess.Popen[str], stops: Path, count: int) -> None:
    """Wait until the engine has been stopped so often."""
    while process.poll() is None and not (stops.exists() and len(stops.read_text().splitlines()) == count):
        time.sleep(0.02)


def refresh(tmp_path: Path, engine: str) -> tuple[subprocess.Popen[str], Path]:
    """Start `runner infra refresh` with a script as the engine; return the process and the file with its stops."""
    program(tmp_path / "bin", engine)
    for name in ("Pulumi.yaml", "Pulumi.local.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "infra").symlink_to(ROOT / "infra")
    (tmp_path / "state").mkdir()
    stops = tmp_path / "stops"
    variables = {
        **os.environ,
        "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin",
        "STOPS": str(stops),
        "PULUMI_BACKEND_URL": f"file://{tmp_path / 'state'}",
        "PULUMI_CONFIG_PASSPHRASE": "test",
    }
    command = [sys.executable, "-m", "runner", "infra", "refresh", "--stack", "local", "--directory", ".", "--yes"]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    return process, stops


@NUMBERS
def test_a_second_stop_says_what_it_means(number: signal.Signals, tmp_path: Path) -> None:
    process, stops = refresh(tmp_path, ENGINE)
    reach(process, stops, 0)
    process.send_signal(number)
    reach(process, stops, 1)
    process.send_signal(number)
    said, complained = process.communicate(timeout=120)
    assert process.returncode == 130, said + complained
    first = complained.index("stopping: operations that have started finish first")
    assert first < complained.index("ending at once: the next `up` looks for resources that were being created")
    assert "Traceback" not in complained


def test_a_stop_that_comes_while_the_engine_starts_reaches_it(tmp_path: Path) -> None:
    """The engine would go on alone otherwise."""
    early = ENGINE.replace('[ "$(wc -l < "$STOPS")" = 2 ] && exit 255\' INT', "exit 255' INT; kill -TERM $PPID")
    assert early != ENGINE
    process, stops = refresh(tmp_path, early)
    process.wait(120)
    said, complained = process.communicate(timeout=120)
    assert process.returncode == 130, said + complained
    assert stops.read_text().splitlines() == ["stopped"]


def started(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "runner", "infra", *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@NUMBERS
def test_a_stop_while_the_program_still_starts_is_one_too(number: signal.Signals) -> None:
    process = started("graph", "--stack", "prod")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while process.poll() is None and not children.read_text():
        time.sleep(0.001)
    process.send_signal(number)
    said, complained = process.communicate(timeout=120)
    assert process.returncode == 130, said + complained
    assert "Traceback" not in complained
    assert "graph of stack prod was stopped" in complained


class Nothing(Mocks):
    """Makes everything, which is nothing."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str, dict[str, object]]:
        self.made.append(args.name)
        return args.name, {}

    def call(self, args: pulumi.runtime.MockCallArgs) -> tuple[dict[object, object], list[tuple[str, str]]]:
        return {}, []


@NUMBERS
def test_a_stop_amid_the_program_ends_it_after_what_was_begun(number: signal.Signals) -> None:
    """It comes in a task of the event loop, where an exception is kept for whoever waits for the task."""
    mocks = Nothing()

    def program() -> None:
        first = pulumi.CustomResource("test:index:Thing", "first", {})

        def stopped(name: str) -> str:
            os.kill(os.getpid(), number)
            return name

        pulumi.CustomResource("test:index:Thing", "second", {"after": first.id.apply(stopped)})

    with pytest.raises(KeyboardInterrupt):
        evaluated(mocks, LoopedMonitor(mocks), program, {}, stack="test", log="test")
    assert mocks.made == ["first"]
