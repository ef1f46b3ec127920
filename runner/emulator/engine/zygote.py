"""The fork server: loads the heavy libraries once, then forks a worker per request. `launcher` describes the protocol.

Started as `python -m runner.emulator.engine.zygote FD [--preload]`. Nothing here may run a torch operation or start a
thread before a fork, because the state of OpenMP and CUDA does not survive a fork.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import importlib.util
import json
import os
import select
import signal
import socket
import sys
import threading
import traceback
from pathlib import Path
from typing import Any, NoReturn

from runner.emulator.engine.liveness import write_worker

_ENTRY_POINTS = {"training": "runner.emulator.engine.training", "serving": "runner.emulator.engine.serving.process"}
"""The module whose `main` a worker of each role runs."""
_PRELOADED = (
    "torch",
    "transformers.models.llama.modeling_llama",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.generation.utils",
    "peft",
    "safetensors.torch",
    "jinja2.sandbox",
    "runner.emulator.engine.loading",
    *_ENTRY_POINTS.values(),
)
_PR_SET_PDEATHSIG = 1  # prctl(2)


class Zygote:
    """Serves one launcher until its socket ends."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.children: dict[int, int] = {}
        """Worker's number by process id."""
        self.unread = b""
        self.wake_read, self.wake_write = os.pipe()
        os.set_blocking(self.wake_read, False)
        os.set_blocking(self.wake_write, False)
        # Only this process holds it open: on other systems than Linux, its end tells workers that the zygote has ended.
        self.life_read, self.life_write = os.pipe()

    def serve(self) -> None:
        """Fork, signal and reap until the launcher ends."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self.wake_write, warn_on_full_buffer=False)
        while True:
            ready, _, _ = select.select([self.connection.fileno(), self.wake_read], [], [])
            if self.wake_read in ready:
                os.read(self.wake_read, 4096)
                self._reap()
            if self.connection.fileno() in ready and not self._receive():
                return

    def _receive(self) -> bool:
        received = self.connection.recv(65536)
        *lines, self.unread = (self.unread + received).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "start" in message:
                self._fork(message["start"], message["role"], Path(message["directory"]))
            else:
                self._signal(message["signal"], message["number"])
        return bool(received)

    def _fork(self, number: int, role: str, directory: Path) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._become_worker(parent, role, directory)
        self.children[pid] = number
        self._send({"started": number, "pid": pid})

    def _signal(self, number: int, signal_number: int) -> None:
        for pid, child in self.children.items():
            if child == number:  # not reaped yet, so the ID is not reused
                os.kill(pid, signal_number)

    def _reap(self) -> None:
        while self.children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            number = self.children.pop(pid, None)
            if number is not None:
                self._send({"exited": number, "code": os.waitstatus_to_exitcode(status)})

    def _send(self, message: dict[str, Any]) -> None:
        try:
            self.connection.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            os._exit(0)  # the launcher has ended, and this process's end ends the workers

    def _become_worker(self, parent: int, role: str, directory: Path) -> NoReturn:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self.connection.close()
            for descriptor in (self.wake_read, self.wake_write, self.life_write):
                os.close(descriptor)
            _die_with_parent(parent, self.life_read)
            log = os.open(directory / "worker.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.close(log)
            write_worker(directory)
            code = run(role, directory)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)


def run(role: str, directory: Path) -> int:
    """Run one worker in this process and return its exit code."""
    module = importlib.import_module(_ENTRY_POINTS[role])
    try:
        code = module.main(directory)
    except SystemExit as stop:
        code = stop.code
    return code if isinstance(code, int) else 0 if code is None else 1


def _die_with_parent(parent: int, life: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died before the call above
            os._exit(1)
        return

    def watch() -> None:
        os.read(life, 1)  # returns only at the end of the zygote
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def preload() -> None:
    """Import what every worker needs. The worker reports missing or broken packages, because its log is kept."""
    for name in _PRELOADED:
        try:
            importlib.import_module(name)
        except ImportError:
            continue
    gc.collect()
    gc.freeze()  # otherwise the first collection in a child copies every page


if __name__ == "__main__":
    _connection = socket.socket(fileno=int(sys.argv[1]))
    _connection.set_inheritable(False)
    # A hangup of the terminal or an interrupt of the group is for the emulator, whose end is then noticed on the
    # socket.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _zygote = Zygote(_connection)
    if "--preload" in sys.argv:
        preload()
    _zygote.serve()
    os._exit(0)
