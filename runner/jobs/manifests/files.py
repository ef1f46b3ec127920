"""The manifest files that `-f` names, directly or through a folder."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from runner import local_files

MAX_FILES = 10_000
SUFFIXES = (".yaml", ".yml")


def files(paths: Iterable[Path], problems: list[str]) -> Iterator[Path]:
    """Yield the manifests that files and folders name, each once, ordered by name.

    Args:
        paths: files, and folders, which are read recursively.
        problems: gets a line for each path that cannot be used.
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
    """Yield the manifests in a folder. A folder that cannot be read is an error; it does not count as empty.

    Hidden files belong to other tools, such as `.github/workflows/tuning.yml`. Links to folders are not followed.
    """

    def refused(error: OSError) -> None:
        problems.append(f"{error.filename}: {local_files.reason(error)}")

    for place, folders, names in os.walk(folder, onerror=refused):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if not name.startswith(".") and name.endswith(SUFFIXES):
                yield Path(place, name)


def _unusable(file: Path) -> str:
    """Return why a path is not a file; "" for a file. A broken link must not mean that the manifest was removed."""
    try:
        mode = file.stat().st_mode
    except (OSError, ValueError) as error:
        broken = isinstance(error, FileNotFoundError) and file.is_symlink()
        return f"a link to {file.readlink()}, which is not there" if broken else local_files.reason(error)
    return "" if stat.S_ISREG(mode) else "neither a file nor a folder"
