"""Starts training and serving processes, without importing torch.

Importing torch, transformers and peft takes ten seconds and most of a gigabyte, so it happens once: in a fork server
(`zygote`) that loads them and then forks a child per request in a few milliseconds. They communicate over a
socket pair, with one JSON object per line:

    to the zygote     {"start": n, "role": "training", "directory": …}   {"signal": n, "number": 15}
    from the zygote   {"started": n, "pid": …}                           {"exited": n, "code": …}

When the emulator ends for any reason, the socket is closed: the zygote exits, and the kernel ends its children.
Signals also go through the zygote, which reaps its children itself, so that no signal can reach another process with a
reused ID.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import itertools
import json
import os
import signal
import socket
import subprocess
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import platformdirs

from runner.emulator.engine.liveness import WORKER_FILE, is_running, read_worker
from runner.installation import install_hint
from runner.local_processes import module_command

_REQUIRED = ("torch", "transformers", "peft", "safetensors", "jinja2", "PIL")


class WorkerProcess:
    """One training or serving process. Returned before the process exists, because the zygote may still be loading."""

    def __init__(self, launcher: Launcher, number: int, directory: Path) -> None:
        self.directory = directory
        self._launcher = launcher
        self._number = number
        self._pid: int | None = None
        self._exit: Future[int] = Future()

    @property
    def pid(self) -> int | None:
        """Return the process id; None until the process has been forked."""
        return self._pid

    def is_alive(self) -> bool:
        """Return whether the process is running or will be started."""
        return not self._exit.done()

    async def wait(self) -> int:
        """Return the exit code, or the negative number of the signal that killed it.

        Cancelling does not affect the process.
        """
        return await asyncio.shield(asyncio.wrap_future(self._exit))

    def join(self, timeout_seconds: float | None = None) -> int:
        """Return the exit code, blocking the calling thread.

        Raises:
            TimeoutError: the process is still running after `timeout_seconds`.
        """
        return self._exit.result(timeout_seconds)

    def terminate(self) -> None:
        """Ask the process to save its state and exit (SIGTERM)."""
        self._launcher.send_signal(self, signal.SIGTERM)

    def kill(self) -> None:
        """End the process at once (SIGKILL)."""
        self._launcher.send_signal(self, signal.SIGKILL)

    # Called by the launcher's reader thread.
    def _started(self, pid: int) -> None:
        self._pid = pid

    def _exited(self, code: int) -> None:
        if not self._exit.done():
            self._exit.set_result(code)


class _Zygote:
    """The fork server's process and its socket. The launcher's lock protects all attributes."""

    def __init__(self, process: subprocess.Popen[bytes], connection: socket.socket) -> None:
        self.process = process
        self.connection = connection
        self.workers: dict[int, WorkerProcess] = {}


class Launcher:
    """Starts workers with one fork server, which is started when it is first used.

    Args:
        training_threads: maximum number of threads of one worker; each spec contains its number.
        preload: import torch before the first fork. Otherwise, every worker imports it.
    """

    def __init__(self, training_threads: int = 1, preload: bool = True) -> None:
        self._training_threads = training_threads
        self._preload = preload
        self._lock = threading.RLock()
        self._numbers = itertools.count(1)
        self._zygote: _Zygote | None = None
        self._closed = False

    def available(self) -> str | None:
        """Return None if workers can run here, otherwise a sentence that says what is missing."""
        missing = [name for name in _REQUIRED if importlib.util.find_spec(name) is None]
        if not missing:
            return None
        return (
            f"Training and serving on this machine need {', '.join(missing)}, "
            f"which the extra `local` installs: {install_hint('local')}."
        )

    def warm_up(self) -> None:
        """Start loading torch in the background, so that the first job need not wait for it. Returns immediately."""
        with self._lock:
            self._running_zygote()

    def start_training(self, job_directory: Path) -> WorkerProcess:
        """Start the training process of a folder that contains `job.json`. Returns immediately."""
        return self._start("training", job_directory)

    def start_serving(self, directory: Path) -> WorkerProcess:
        """Start the serving process of a folder that contains `serving.json`. Returns immediately."""
        return self._start("serving", directory)

    def send_signal(self, worker: WorkerProcess, number: int) -> None:
        """Send a signal to a running worker; does nothing if it has ended."""
        with self._lock:
            zygote = self._zygote
            if zygote is not None and zygote.workers.get(worker._number) is worker:
                self._send(zygote, {"signal": worker._number, "number": int(number)})

    def close(self) -> None:
        """End the fork server and every worker; blocks until they have ended (at most about 5 seconds)."""
        with self._lock:
            self._closed = True
            zygote, self._zygote = self._zygote, None
        if zygote is None:
            return
        with contextlib.suppress(OSError):
            zygote.connection.shutdown(socket.SHUT_RDWR)
        try:
            zygote.process.wait(1)
        except subprocess.TimeoutExpired:  # still importing: it would notice the signal only afterwards
            zygote.process.kill()
            zygote.process.wait(5)

    def _start(self, role: str, directory: Path) -> WorkerProcess:
        with self._lock:
            zygote = self._running_zygote()
            worker = WorkerProcess(self, next(self._numbers), directory)
            zygote.workers[worker._number] = worker
            self._send(zygote, {"start": worker._number, "role": role, "directory": str(directory)})
            return worker

    def _send(self, zygote: _Zygote, message: dict[str, Any]) -> None:
        # The reader thread notices a dead zygote, and fails its workers.
        with contextlib.suppress(OSError):
            zygote.connection.sendall(json.dumps(message).encode() + b"\n")

    def _running_zygote(self) -> _Zygote:
        if self._closed:
            raise RuntimeError("the launcher is closed")
        if self._zygote is None:
            ours, theirs = socket.socketpair()
            with theirs:
                process = subprocess.Popen(
                    module_command("runner.emulator.engine.zygote", str(theirs.fileno()))
                    + (["--preload"] if self._preload else []),
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    env=self._environment(),
                    start_new_session=True,  # the emulator handles Ctrl-C in its terminal
                )
            self._zygote = _Zygote(process, ours)
            threading.Thread(target=self._read, args=(self._zygote,), name="zygote-reader", daemon=True).start()
        return self._zygote

    def _environment(self) -> dict[str, str]:
        threads = str(max(1, self._training_threads))
        package_root = str(Path(__file__).parents[3])
        path = os.pathsep.join(filter(None, [package_root, os.environ.get("PYTHONPATH", "")]))
        return os.environ | {
            "PYTHONPATH": path,
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            # Idle threads spin for about 50 microseconds, which is the time between two operations, and then sleep.
            # More spinning makes a step many times slower on a shared machine. If threads sleep at once, waking them
            # takes longer than many operations on an idle machine.
            "OMP_WAIT_POLICY": "PASSIVE",
            "GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", "1000"),
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_OFFLINE": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "TRANSFORMERS_VERBOSITY": "error",
            # Check for a GPU without initializing CUDA, which would not survive the fork.
            "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
            # PyTorch creates this folder at import; the default is in the system's temporary directory.
            "TORCHINDUCTOR_CACHE_DIR": str(platformdirs.user_cache_path("open-model-tuning") / "torchinductor"),
        }

    def _read(self, zygote: _Zygote) -> None:
        try:
            with zygote.connection.makefile("rb") as lines:
                for line in lines:
                    self._handle(zygote, json.loads(line))
        except (OSError, ValueError):
            pass
        zygote.connection.close()
        zygote.process.wait()
        with self._lock:
            if self._zygote is zygote:
                self._zygote = None  # the next worker gets a new one
            orphans = list(zygote.workers.values())
            zygote.workers.clear()
        for worker in orphans:  # the kernel has killed them with their parent
            worker._exited(-signal.SIGKILL)

    def _handle(self, zygote: _Zygote, message: dict[str, Any]) -> None:
        with self._lock:
            if "started" in message:
                if (started := zygote.workers.get(message["started"])) is not None:
                    started._started(message["pid"])
            elif "exited" in message:
                worker = zygote.workers.pop(message["exited"], None)
                if worker is not None:
                    worker._exited(message["code"])


def kill_stale(directory: Path, timeout_seconds: float = 5) -> bool:
    """Kill the worker that a killed emulator may have left in `directory`; return whether there was one.

    A process counts as this worker only if its ID and start time are those that the worker recorded, because IDs are
    reused. Waits until the process has ended.

    Raises:
        TimeoutError: the process survives the kill (it hangs in the kernel).
    """
    worker = read_worker(directory)
    if worker is None or not is_running(worker):
        (directory / WORKER_FILE).unlink(missing_ok=True)
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(worker.pid, signal.SIGKILL)
    deadline = time.monotonic() + timeout_seconds
    while is_running(worker):
        if time.monotonic() > deadline:
            raise TimeoutError(f"process {worker.pid} of {directory} does not end")
        time.sleep(0.02)
    (directory / WORKER_FILE).unlink(missing_ok=True)
    return True
