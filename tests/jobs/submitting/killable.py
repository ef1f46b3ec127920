"""Command lines that can be killed at any of their system calls: a process of one thread that forks them.

It has imported what they need, so a command line costs what it does itself, not two seconds of imports.
"""

from __future__ import annotations

import dataclasses
import functools
import gc
import importlib
import json
import os
import subprocess
import sys
import threading
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import certifi

from tests.jobs.submitting import ptrace

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What became of one command line."""

    points: list[str]
    """System calls that it began, see `ptrace`."""
    killed: bool
    code: int | None
    output: str
    """Standard output and standard error."""


class Killable:
    """The process; a context manager. `run` runs one command line in it."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._process: subprocess.Popen[str]

    def __enter__(self) -> Killable:
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("RUNNER_", "GOOGLE_"))}
        # Each client loads the authorities that it trusts, 30 ms a time; none is asked for on loopback.
        environment["SSL_CERT_FILE"] = str(one_authority(self._scratch))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.jobs.submitting.killable", str(self._scratch)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream(self._process.stdin).close()
        self._process.wait(60)
        self._stream(self._process.stdout).close()

    def run(
        self,
        *arguments: str,
        variables: dict[str, str],
        kill_at: int | None = None,
        after: str = "",
        values: dict[str, float] | None = None,
        plant: str = "",
        failure: ptrace.Failure | None = None,
    ) -> Run:
        """Run `runner ARGUMENTS`.

        Args:
            arguments: of the command line.
            variables: of the environment.
            kill_at: number of the system call at which it is killed, from 0.
            after: text in the name of the call from which that is counted.
            values: module constants to set, as `runner.jobs.outputs.ownership.LEASE_SECONDS`.
            plant: `MODULE:FUNCTION` to call first, which puts a mistake into the program.
            failure: lets calls on files fail.
        """
        return self._ask(
            {
                "arguments": arguments,
                "variables": variables,
                "kill_at": kill_at,
                "after": after,
                "values": values or {},
                "plant": plant,
                "failure": dataclasses.asdict(failure) if failure else None,
            }
        )

    def warm(self, *arguments: str, variables: dict[str, str]) -> Run:
        """Run a command line in the process itself, so that what it builds once is there for all that come after."""
        return self._ask({"arguments": arguments, "variables": variables, "warm": True})

    def _ask(self, request: dict[str, Any]) -> Run:
        sink, source = self._stream(self._process.stdin), self._stream(self._process.stdout)
        sink.write(json.dumps(request) + "\n")
        sink.flush()
        answer = source.readline()
        if not answer:
            raise RuntimeError("the process of the command lines has ended")
        return Run(**json.loads(answer))

    @staticmethod
    def _stream(stream: IO[str] | None) -> IO[str]:
        if stream is None:
            raise RuntimeError("not started")
        return stream


def one_authority(folder: Path) -> Path:
    """Write a file with one certificate of an authority and return its name."""
    path = folder / "authority.pem"
    path.write_text(certifi.contents().partition("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n")
    return path


def _serve(scratch: Path) -> None:
    answers = os.fdopen(os.dup(1), "w")
    output = os.open(scratch / "output", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    for number in (1, 2):
        os.dup2(output, number)
    os.environ["NO_PROXY"] = "127.0.0.1,localhost"
    for line in sys.stdin:
        request = json.loads(line)
        os.ftruncate(output, 0)
        os.lseek(output, 0, os.SEEK_SET)
        if request.get("warm"):
            trace = ptrace.Trace(code=_run(request))
            if threading.active_count() != 1:
                raise RuntimeError("a thread was left: what is forked now would have lost it")
            gc.collect()
            gc.freeze()
        else:
            failure = ptrace.Failure(**request["failure"]) if request["failure"] else None
            function = functools.partial(_planted, request)
            trace = ptrace.traced(function, request["kill_at"], request["after"], failure)
        text = os.pread(output, 1 << 20, 0).decode(errors="replace")
        body = {"points": trace.points, "killed": trace.killed, "code": trace.code, "output": text}
        print(json.dumps(body), file=answers, flush=True)


def _planted(request: dict[str, Any]) -> int:
    for name, value in request["values"].items():
        module, _, attribute = name.rpartition(".")
        setattr(importlib.import_module(module), attribute, value)
    if request["plant"]:
        module, _, attribute = request["plant"].partition(":")
        getattr(importlib.import_module(module), attribute)()
    return _run(request)


def _run(request: dict[str, Any]) -> int:
    """Run the command line and return its exit code."""
    os.environ.update(request["variables"])
    from runner.cli.main import main

    code = 70
    try:
        main(request["arguments"])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    return code


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
