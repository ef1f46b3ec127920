"""Environments of Python that tests make, because what they hold does not go together with the rest.

What comes from an index is installed once, into the user's cache; what belongs to this checkout is laid over it anew.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from runner.datasets.distributed.wheels import wheels

ROOT = Path(__file__).parents[1]
UNREACHABLE = "needs a package index that answers"
_UV = Path(sys.executable).with_name("uv")


def _uv(*arguments: str | Path, environment: Path | None = None) -> subprocess.CompletedProcess[str]:
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    if environment is not None:
        variables["VIRTUAL_ENV"] = str(environment)
    uv = str(_UV) if _UV.exists() else "uv"
    return subprocess.run(
        [uv, *map(str, arguments)], capture_output=True, text=True, timeout=900, env=variables, check=False
    )


def python_with_beam(folder: Path) -> Path:
    """Return a Python that has Apache Beam, and this checkout as the wheels that a pipeline's workers install.

    Skips the test where no package index answers.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    # Without what Google's services need: the workers of these tests are on this machine.
    beam = [item.replace("[gcp]", "") for item in project["optional-dependencies"]["beam"]]
    site = _installed("beam", [*beam, *project["dependencies"]])
    environment = folder / "environment"
    _require(_uv("venv", "--quiet", "--python", sys.executable, environment))
    (own,) = environment.glob("lib/python*/site-packages")
    (own / "installed.pth").write_text(f"{site}\n")
    (folder / "wheels").mkdir()
    _require(_uv("pip", "install", "--quiet", "--no-deps", *wheels(folder / "wheels"), environment=environment))
    return environment / "bin" / "python"


def python_with(name: str, requirements: list[str]) -> Path:
    """Return a Python that has these requirements and nothing of this checkout. Skips where no index answers."""
    return _installed(name, requirements).parents[2] / "bin" / "python"


def _installed(name: str, requirements: list[str]) -> Path:
    """Return the site-packages of a cached environment that has these requirements."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "open-model-tuning-tests"
    root.mkdir(parents=True, exist_ok=True)
    key = hashlib.sha256(repr((sorted(requirements), sys.version)).encode()).hexdigest()[:12]
    environment = root / f"{name}-{key}"
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (environment / "complete").exists():
            _require(_uv("venv", "--quiet", "--clear", "--python", sys.executable, environment))
            done = _uv("pip", "install", "--quiet", *requirements, environment=environment)
            if (
                done.returncode
                and _uv("pip", "install", "--dry-run", "--reinstall", "six", environment=environment).returncode
            ):
                pytest.skip(UNREACHABLE)
            _require(done)
            (environment / "complete").touch()
    (site,) = environment.glob("lib/python*/site-packages")
    return site


def _require(done: subprocess.CompletedProcess[str]) -> None:
    assert not done.returncode, done.stderr
