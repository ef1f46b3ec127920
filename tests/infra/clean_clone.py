"""A clean clone of this repository, in which pipelines' steps run as they stand.

Stand-ins (`tests.infra.stand_in`) only for what cannot be had there: packages of the system and of registries, which
this environment has instead, what signs and publishes, and `gh`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.infra import stand_in

ROOT = Path(__file__).resolve().parents[2]


class Clone:
    """The clone, the stand-ins, and what they were asked."""

    def __init__(self, folder: Path, *, path: str = "/usr/bin:/bin") -> None:
        self.folder = folder / "clone"
        # As the pipelines' services do: the one commit.
        subprocess.run(["git", "clone", "-q", "--depth", "1", f"file://{ROOT}", str(self.folder)], check=True)
        self.programs = folder / "programs"
        self.programs.mkdir()
        program = self.programs / "stand-in"
        program.write_text(f"#!{sys.executable} -IS\n{Path(stand_in.__file__).read_text('utf-8')}")
        program.chmod(0o755)
        for name in stand_in.SYSTEM:
            (self.programs / name).symlink_to(program)
        for environment in (".venv", ".venv-audit", ".venv-wheels"):
            (self.folder / environment / "bin").mkdir(parents=True)
            for name in (*stand_in.ENVIRONMENT, *stand_in.TOOLS):
                (self.folder / environment / "bin" / name).symlink_to(program)
        self._calls = folder / "calls.jsonl"
        self._calls.touch()
        (folder / "temporary").mkdir()
        self.variables = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PYTEST"))},
            "PATH": f"{self.programs}:{path}",
            "HOME": str(folder),
            "CI": "true",
            "CALLS": str(self._calls),
            "RUNNER_TEMP": str(folder / "temporary"),
        }

    def shorten(self, commands: dict[str, list[str]]) -> None:
        """Have the commands that begin like a key take more arguments, or run the code after `-c` instead."""
        self.variables["SHORTER"] = json.dumps(commands)

    def clean(self) -> None:
        """Take away what was made in the clone, as where another machine has another clone."""
        subprocess.run(["git", "clean", "-xfdq", "-e", ".venv*/bin"], cwd=self.folder, check=True)

    def run(self, script: str, shell: str = "-e", **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a script as pipelines do: in the clone, until a command fails."""
        return subprocess.run(
            ["bash", shell, "-c", script],
            cwd=self.folder,
            env={**self.variables, **variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=400,
            stdin=subprocess.DEVNULL,
        )

    @property
    def calls(self) -> list[str]:
        """What was called, in order."""
        return [" ".join(json.loads(line)) for line in self._calls.read_text().splitlines()]
