"""Runs one command of the engine: what it says goes to standard error, what happened comes from its events.

The engine writes to the terminal or the log itself, not through this process, so nothing of it is lost when this one
goes. Ctrl-C and SIGTERM are handed to it once each, as a terminal does: it finishes what it began, keeps its state and
releases the lock. A second one ends it at once.
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
    """Somebody stopped it."""

    code = "interrupted"
    usual_hint = "run the same command again to continue"
    exit_code = 130


@dataclass(slots=True)
class Ended:
    """One command of the engine that has ended."""

    status: int
    said: str = ""
    """Standard output, where it was asked for."""
    complained: str = ""
    """Standard error."""
    events: list[Event] = field(default_factory=list)
    interrupted: int = 0
    """How often somebody stopped it meanwhile."""


def read(
    arguments: list[str],
    directory: Path,
    *,
    given: str | None = None,
    variables: Mapping[str, str] | None = None,
    limit: float | None = None,
) -> Ended:
    """Run a command that only reads or writes the state, and return what it said."""
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
    """Run a command that changes or compares, and return its events.

    Args:
        arguments: of `pulumi`.
        directory: folder of Pulumi.yaml.
        shown: False keeps standard output for the caller instead of showing it.
        variables: more of them for the engine.
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
                    # Of its own group: a terminal's Ctrl-C would reach it twice otherwise, which ends it at once.
                    process_group=0,
                )
                stops.to(process)
                status = process.wait()
            said, complained = _content(out), _content(err)
        return Ended(status, said, complained, _events(log), stops.times)


def _environment() -> dict[str, str]:
    return {
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        # Google's provider would ask compute.googleapis.com for the regions, also for a local stack.
        "PULUMI_GCP_SKIP_REGION_VALIDATION": "true",
        **os.environ,
        "PULUMI_DEBUG_COMMANDS": "true",  # `--event-log` is one of them
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
        except ValueError:  # the last line of an engine that was killed
            continue
        if isinstance(event, dict):
            found.append(event)
    return found
