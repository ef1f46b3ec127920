"""What the function is built from: this repository's code, and nothing that it does not need."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENTRY = "runner.serving.idle_guard"
DATA = ("runner/catalog/catalog.toml",)
"""Files that are read, not imported."""
REQUIRED = ("google-auth", "google-cloud-storage", "google-genai", "httpx", "platformdirs")
"""What its modules import; the command line's own packages stay at home."""

_IMPORT = re.compile(r"^[ \t]*(?:from (runner[\w.]*) import (\([^)]*\)|[^\n]*)|import (runner[\w.]*))", re.MULTILINE)


def files() -> dict[str, Path]:
    """Return the files of the function by their path in its archive, in order: what its entry point imports."""
    found = {"main.py": ROOT / "infra/idle_guard/main.py", **{name: ROOT / name for name in DATA}}
    todo = [ENTRY]
    while todo:
        module = todo.pop()
        path = _path(module)
        if path is None or path.relative_to(ROOT).as_posix() in found:
            continue
        found[path.relative_to(ROOT).as_posix()] = path
        todo.append(module.rpartition(".")[0])  # the package, whose __init__ is run first
        for package, names, plain in _IMPORT.findall(path.read_text("utf-8")):
            todo.append(package or plain)
            # A name may be a module of the package, or something in it.
            todo += [f"{package}.{name}" for name in re.findall(r"\w+", names)]
    return dict(sorted(found.items()))


def _path(module: str) -> Path | None:
    """Return the file of a module, None where the name is of something else."""
    base = ROOT.joinpath(*module.split("."))
    candidates = [base.with_name(f"{base.name}.py"), base / "__init__.py"] if module else []
    return next((path for path in candidates if path.is_file()), None)


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
