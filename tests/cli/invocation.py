"""Run command lines in this process or as processes of their own."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runner.cli.main import main


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a command line left."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)

    @property
    def documents(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def error(self) -> dict[str, Any]:
        """The error object, which is the last line of standard error."""
        found: dict[str, Any] = json.loads(self.err.splitlines()[-1])["error"]
        return found


class CommandLine:
    """Runs command lines in this process, without a terminal."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.capsys = capsys
        self.monkeypatch = monkeypatch

    def __call__(self, *arguments: str, stdin: str = "") -> Outcome:
        self.capsys.readouterr()
        self.monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as end:
            main(arguments)
        captured = self.capsys.readouterr()
        code = end.value.code
        assert isinstance(code, int)
        return Outcome(code=code, out=captured.out, err=captured.err)


def process(*arguments: str, stdin: str = "", timeout: float = 120.0, cwd: str = "", **variables: str) -> Outcome:
    """Run a command line as a process of its own, in this checkout or another folder."""
    done = subprocess.run(
        [sys.executable, "-m", "runner", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout,
        env={"PYTHONPATH": str(Path(__file__).parents[2]), **os.environ, **variables},
        cwd=cwd or Path(__file__).parents[2],
    )
    return Outcome(code=done.returncode, out=done.stdout, err=done.stderr)
