"""Runs one engine command: its output goes to standard error, and its events say what happened.

The engine writes directly to the terminal or log, not through this process, so its output survives if this process
ends. This process passes Ctrl-C and SIGTERM to the engine once each, as a terminal does: the engine finishes what it
began, saves its state and releases the lock. A second signal ends it at once.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner.errors import RunnerError
from runner.local_processes import STOPS, HandedOn, interpreter, signals

Event = dict[str, Any]
_STANDARD_ERROR = 2


class InterruptedRunError(RunnerError):
    """A user or a signal interrupted it."""

    code = "interrupted"
    usual_hint = "run the same command again to continue"
    exit_code = 130


@dataclass(slots=True)
class Ended:
    """An engine command that has ended."""

    status: int
    said: str = ""
    """Standard output, if it was requested."""
    complained: str = ""
    """Standard error."""
    events: list[Event] = field(default_factory=list)
    interrupted: int = 0
    """How many times it was interrupted."""


def read(
    arguments: list[str],
    directory: Path,
    *,
    given: str | None = None,
    variables: Mapping[str, str] | None = None,
    limit: float | None = None,
) -> Ended:
    """Run a command that only reads or writes the state, and return its output."""
    done = subprocess.run(
        ["pulumi", *arguments, "--non-interactive"],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
        input=given,
        timeout=limit,
        env={**_environment(), **(variables or {})},
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def run(
    arguments: list[str], directory: Path, *, shown: bool = True, variables: Mapping[str, str] | None = None
) -> Ended:
    """Run a command that changes or compares resources, and return its events.

    Args:
        arguments: arguments of `pulumi`.
        directory: folder of Pulumi.yaml.
        shown: False returns standard output to the caller instead of showing it.
        variables: additional environment variables for the engine.
    """
    with tempfile.TemporaryDirectory(prefix="runner-infra-") as folder:
        log = Path(folder, "events")
        command = ["pulumi", *arguments, "--non-interactive", "--color", "never", "--event-log", str(log)]
        with Path(folder, "out").open("w+b") as out, Path(folder, "err").open("w+b") as err:
            stops = HandedOn(send=signal.SIGINT)
            with signals(STOPS, stops.stop):
                process = subprocess.Popen(
                    command,
                    cwd=directory,
                    stdin=subprocess.DEVNULL,
                    stdout=_STANDARD_ERROR if shown else out,
                    stderr=err,
                    env={**_environment(), **(variables or {})},
                    # In its own process group: else a terminal's Ctrl-C would reach it twice, which ends it at once.
                    process_group=0,
                )
                stops.to(process)
                status = process.wait()
            said, complained = _content(out), _content(err)
        return Ended(status, said, complained, _events(log), stops.times)


def _environment() -> dict[str, str]:
    return {
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        # Otherwise Google's provider would ask compute.googleapis.com for the regions, even for a local stack.
        "PULUMI_GCP_SKIP_REGION_VALIDATION": "true",
        **os.environ,
        "PULUMI_DEBUG_COMMANDS": "true",  # `--event-log` is a debug command
        "PULUMI_PYTHON_CMD": os.environ.get("PULUMI_PYTHON_CMD", interpreter()),
    }


def _content(file: Any) -> str:
    file.seek(0)
    return bytes(file.read()).decode("utf-8", "replace")


def _events(log: Path) -> list[Event]:
    if not log.exists():
        return []
    found = []
    for line in log.read_text("utf-8", "replace").splitlines():
        try:
            event = json.loads(line)
        except ValueError:  # the last line that a killed engine wrote
            continue
        if isinstance(event, dict):
            found.append(event)
    return found
