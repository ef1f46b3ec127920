"""Run command lines on a machine whose clock is wrong, by Debian's libfaketime."""

from __future__ import annotations

import ctypes.util
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.cli.invocation import Outcome

PLACES = ("/usr/lib/*/faketime/libfaketime.so.1", "/usr/lib/faketime/libfaketime.so.1")


def library() -> str:
    """Return the path of libfaketime, "" where it is not installed."""
    found = [str(path) for pattern in PLACES for path in Path("/").glob(pattern.removeprefix("/"))]
    return next(iter(found), ctypes.util.find_library("faketime") or "")


def process_at(offset: str, arguments: Sequence[str], variables: dict[str, str]) -> Outcome:
    """Run a command line whose clock is wrong by `offset`, such as `+1d`."""
    wrong = {"LD_PRELOAD": library(), "FAKETIME": offset} if offset else {}
    done = subprocess.run(
        [sys.executable, "-m", "runner", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **variables, **wrong},
        cwd=Path(__file__).parents[2],
    )
    return Outcome(code=done.returncode, out=done.stdout, err=done.stderr)
