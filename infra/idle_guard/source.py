"""What the function is built from: this repository's code, and nothing that it does not need."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("runner/catalog", "runner/gcp", "runner/serving")
MODULES = ("runner/__init__.py", "runner/environment.py", "runner/errors.py")
REQUIRED = ("google-auth", "google-cloud-storage", "google-genai", "httpx", "platformdirs")
"""What those parts import; the command line's own packages stay at home."""


def files() -> dict[str, Path]:
    """Return the files of the function by their path in its archive, in order."""
    found = {"main.py": ROOT / "infra/idle_guard/main.py"}
    for name in MODULES:
        found[name] = ROOT / name
    for part in PARTS:
        for path in sorted((ROOT / part).rglob("*")):
            if path.suffix in {".py", ".toml", ".json"} and "__pycache__" not in path.parts:
                found[path.relative_to(ROOT).as_posix()] = path
    return dict(sorted(found.items()))


def requirements() -> str:
    """Return the function's requirements, with the versions that this project asks for."""
    lines = _declared()
    chosen = [line for line in lines if re.split(r"[\[<>=!~ ;]", line, maxsplit=1)[0] in REQUIRED]
    return "".join(f"{line}\n" for line in ["functions-framework>=3,<4", *sorted(chosen)])


def _declared() -> list[str]:
    path = ROOT / "pyproject.toml"
    if path.is_file():
        declared: list[str] = tomllib.loads(path.read_text("utf-8"))["project"]["dependencies"]
        return declared
    from importlib.metadata import requires

    return [line for line in requires("open-model-tuning") or [] if "extra ==" not in line]
