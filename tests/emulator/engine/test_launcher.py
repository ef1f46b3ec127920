"""Processes start, are watched, and never outlive the one that wanted them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runner.emulator.engine.launcher import Launcher, kill_stale
from runner.emulator.engine.liveness import is_running, read_worker, start_time, write_worker
from tests.emulator.engine.training_processes import start


def wait_until(condition: Callable[[], object], timeout_seconds: float = 120) -> None:
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition never held"
        time.sleep(0.02)


@pytest.fixture
def cold() -> Iterator[Launcher]:
    """A launcher whose workers spend their first seconds importing torch: enough to watch them start and die."""
    launcher = Launcher(preload=False)
    yield launcher
    launcher.close()


def test_the_emulators_side_never_imports_torch() -> None:
    modules = "launcher", "sources", "protocol", "liveness", "model_cache", "checkpoints", "zygote"
    code = ""
    for name in modules:
        code += f"import runner.emulator.engine.{name}\n"
    code += "import sys\nassert not {'torch', 'transformers', 'peft'} & set(sys.modules), 'heavy'"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_engine_is_available_here(cold: Launcher) -> None:
    assert cold.available() is None


@pytest.mark.training
def test_a_worker_that_fails_tells_its_code_and_keeps_its_log(launcher: Launcher, tmp_path: Path) -> None:
    (tmp_path / "serving.json").write_text("{}")
    worker = launcher.start_serving(tmp_path)
    assert worker.is_alive()

    async def wait() -> int:
        return await worker.wait()

    assert asyncio.run(wait()) == 1
    assert not worker.is_alive()
    assert (tmp_path / "worker.log").read_text()


def test_cancelling_a_wait_leaves_the_process_alone(cold: Launcher, tmp_path: Path) -> None:
    worker = start(cold, tmp_path, tmp_path).process

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(worker.wait(), 0.05)

    asyncio.run(give_up())
    assert worker.is_alive()
    worker.kill()
    assert worker.join(60) == -signal.SIGKILL
    worker.kill()  # of an ended process: nothing


def test_everything_dies_with_a_killed_emulator(tmp_path: Path) -> None:
    script = (
        "import sys, time, pathlib\n"
        "from runner.emulator.engine.launcher import Launcher\n"
        "from tests.emulator.engine.training_processes import start\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "launcher = Launcher(preload=False)\n"
        "start(launcher, folder, folder, epochs=100000)\n"
        "print(launcher._zygote.process.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    emulator = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert emulator.stdout is not None
        zygote = int(emulator.stdout.readline())
        wait_until(lambda: read_worker(tmp_path))
        worker = read_worker(tmp_path)
        assert worker is not None
        assert is_running(worker)
        assert start_time(zygote) is not None
        emulator.kill()
        wait_until(lambda: not is_running(worker), 10)
        wait_until(lambda: start_time(zygote) is None, 10)
    finally:
        emulator.kill()
        emulator.communicate()


def test_a_worker_left_behind_is_killed(cold: Launcher, tmp_path: Path) -> None:
    worker = start(cold, tmp_path, tmp_path).process
    wait_until(lambda: read_worker(tmp_path))
    assert kill_stale(tmp_path) is True
    assert worker.join(60) == -signal.SIGKILL
    assert kill_stale(tmp_path) is False
    assert not (tmp_path / "worker.json").exists()


@pytest.mark.parametrize("damage", ["another start time", "no start time", "not JSON", "no file"])
def test_a_process_that_merely_has_the_same_id_is_left_alone(tmp_path: Path, damage: str) -> None:
    sleeper = subprocess.Popen(["sleep", "60"])
    try:
        write_worker(tmp_path)
        own = json.loads((tmp_path / "worker.json").read_text())
        assert own == {"pid": os.getpid(), "started": start_time(os.getpid())}
        text = {
            "another start time": json.dumps({"pid": sleeper.pid, "started": own["started"]}),
            "no start time": json.dumps({"pid": sleeper.pid, "started": ""}),
            "not JSON": "{",
        }.get(damage)
        if text is None:
            (tmp_path / "worker.json").unlink()
        else:
            (tmp_path / "worker.json").write_text(text)
        assert kill_stale(tmp_path) is False
        assert sleeper.poll() is None
    finally:
        sleeper.kill()
        sleeper.wait()


def test_workers_of_a_killed_fork_server_end_and_the_next_one_gets_a_new_server(cold: Launcher, tmp_path: Path) -> None:
    first = start(cold, tmp_path / "first", tmp_path).process
    wait_until(lambda: read_worker(tmp_path / "first"))
    record = read_worker(tmp_path / "first")
    assert record is not None
    assert cold._zygote is not None
    os.kill(cold._zygote.process.pid, signal.SIGKILL)
    assert first.join(60) == -signal.SIGKILL
    wait_until(lambda: not is_running(record), 10)
    second = start(cold, tmp_path / "second", tmp_path).process
    wait_until(lambda: second.pid is not None)
    second.kill()
    assert second.join(60) == -signal.SIGKILL


def test_closing_ends_the_workers(tmp_path: Path) -> None:
    launcher = Launcher(preload=False)
    worker = start(launcher, tmp_path, tmp_path).process
    wait_until(lambda: read_worker(tmp_path))
    record = read_worker(tmp_path)
    launcher.close()
    assert worker.join(60) == -signal.SIGKILL
    assert record is not None
    wait_until(lambda: not is_running(record), 10)
    with contextlib.suppress(RuntimeError):
        launcher.warm_up()
        pytest.fail("a closed launcher started again")
