"""The files of the function: this repository's code, without what it does not need."""

from __future__ import annotations

import re
from pathlib import Path

import runner

ROOT = Path(runner.__file__).resolve().parents[1]
"""Folder of the package `runner`: in the checkout, or where packages are installed."""
ENTRY = "runner.serving.idle_guard"
LOCK = Path(__file__).with_name("requirements.lock")
DATA = ("runner/catalog/catalog.toml",)
"""Files that are read, not imported."""

_IMPORT = re.compile(r"^[ \t]*(?:from (runner[\w.]*) import (\([^)]*\)|[^\n]*)|import (runner[\w.]*))", re.MULTILINE)


def files() -> dict[str, Path]:
    """Return the function's files by their path in its archive, in order: everything that its entry point imports."""
    found = {"main.py": ROOT / "runner/serving/guard_function.py", **{name: ROOT / name for name in DATA}}
    todo = [ENTRY]
    while todo:
        module = todo.pop()
        path = _path(module)
        if path is None or path.relative_to(ROOT).as_posix() in found:
            continue
        found[path.relative_to(ROOT).as_posix()] = path
        todo.append(module.rpartition(".")[0])  # the package's __init__ runs first
        for package, names, plain in _IMPORT.findall(path.read_text("utf-8")):
            todo.append(package or plain)
            # The name is a module of the package, or something in a module.
            todo += [f"{package}.{name}" for name in re.findall(r"\w+", names)]
    return dict(sorted(found.items()))


def _path(module: str) -> Path | None:
    """Return the file of a module, or None if the name is not a module."""
    base = ROOT.joinpath(*module.split("."))
    candidates = [base.with_name(f"{base.name}.py"), base / "__init__.py"] if module else []
    return next((path for path in candidates if path.is_file()), None)


def requirements() -> str:
    """Return the function's requirements: every package by version and hash, as `python3 dev.py lock` resolved them."""
    return LOCK.read_text("utf-8")


def imported() -> list[str]:
    """Return the packages that the archive's modules import, as lines of the resolved requirements."""
    lines = LOCK.with_suffix(".in").read_text("utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]
