"""Which files are manifests: what `-f` names, and what is in the folders that it names."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from runner import local_files

MAX_FILES = 10_000
SUFFIXES = (".yaml", ".yml")


def files(paths: Iterable[Path], problems: list[str]) -> Iterator[Path]:
    """Yield the manifests that files and folders name, each once, in order of name.

    Args:
        paths: files, and folders that are read with what is below them.
        problems: gets a line for each that cannot be used.
    """
    seen: set[Path] = set()
    for path in paths:
        if path.is_dir():
            found = sorted(_below(path, problems))
            if not found:
                problems.append(f"{path}: holds no {' or '.join(SUFFIXES)} file")
        else:
            found = [path]
        for item in found:
            problem = _unusable(item)
            if problem:
                problems.append(f"{item}: {problem}")
            elif item.resolve() not in seen:
                seen.add(item.resolve())
                if len(seen) > MAX_FILES:
                    problems.append(f"{path}: more than {MAX_FILES} files")
                    return
                yield item


def _below(folder: Path, problems: list[str]) -> Iterator[Path]:
    """Yield the manifests in a folder; a folder that cannot be read is a mistake, not an empty one.

    What is hidden belongs to other tools, as `.github/workflows/tuning.yml` does. Links to folders are not followed.
    """

    def refused(error: OSError) -> None:
        problems.append(f"{error.filename}: {local_files.reason(error)}")

    for place, folders, names in os.walk(folder, onerror=refused):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if not name.startswith(".") and name.endswith(SUFFIXES):
                yield Path(place, name)


def _unusable(file: Path) -> str:
    """Say why a path is no file; "" for one. A job must not count as removed because its manifest is a broken link."""
    try:
        mode = file.stat().st_mode
    except (OSError, ValueError) as error:
        broken = isinstance(error, FileNotFoundError) and file.is_symlink()
        return f"a link to {file.readlink()}, which is not there" if broken else local_files.reason(error)
    return "" if stat.S_ISREG(mode) else "neither a file nor a folder"
