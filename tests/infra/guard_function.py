"""The idle guard's function as it is deployed: its archive unpacked elsewhere, with nothing but what it asks for."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any

from infra.idle_guard import source

_SCRIPT = """
import sys
code, hidden, allowed = sys.argv[1], set(sys.argv[2].split(',')), set(sys.argv[3].split(','))

class Only:
    '''A finder that knows nothing but what the function's requirements install.'''
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in hidden:
            return None
        return self.finder.find_spec(name, path, target)

    def find_distributions(self, context):
        for found in getattr(self.finder, 'find_distributions', lambda context: ())(context):
            if found.metadata['Name'].lower().replace('_', '-').replace('.', '-') in allowed:
                yield found

sys.path.insert(0, '.')
sys.meta_path[:] = [Only(one) for one in sys.meta_path if 'editable' not in repr(one).lower()]
import main
from runner.serving import idle_guard
assert idle_guard.__file__.startswith(code), idle_guard.__file__
print(main.main(None))
"""


def unpack(folder: Path) -> Path:
    """Put the function's archive into a folder, as its build does, and return the folder of its code."""
    archive = folder / "function.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for name, path in source.files().items():
            file.write(path, name)
    unpacked = folder / "function"
    with zipfile.ZipFile(archive) as file:
        file.extractall(unpacked)
    return unpacked


def closure(requirements: list[str]) -> set[str]:
    """Return the names of the distributions that these lines install, as far as they are installed here."""
    found: set[str] = set()
    todo = list(requirements)
    while todo:
        line, _, marker = todo.pop().partition(";")
        match = re.match(r"\s*([A-Za-z0-9._-]+)(\[[^\]]*\])?", line)
        assert match, line
        name = re.sub(r"[-_.]+", "-", match[1]).lower()
        wanted = set((match[2] or "").strip("[]").replace(" ", "").split(","))
        extra = re.search(r"extra\s*==\s*['\"]([^'\"]+)", marker)
        assert not extra
        if name in found and wanted == {""}:
            continue
        found.add(name)
        try:
            lines = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # of another platform, or functions-framework, which only the function has
        for item in lines:
            extra = re.search(r"extra\s*==\s*['\"]([^'\"]+)", item)
            if extra is None:
                todo.append(item)
            elif extra[1] in wanted:
                todo.append(item.split(";")[0])
    return found


def call(code: Path, **variables: str) -> tuple[str, list[dict[str, Any]]]:
    """Call the entry point in a process of its own; return its answer and the lines that it logged."""
    allowed = closure(source.imported())
    hidden = [
        module
        for module, owners in metadata.packages_distributions().items()
        if not {re.sub(r"[-_.]+", "-", owner).lower() for owner in owners} & allowed and module != "runner"
    ]
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(code), ",".join(hidden), ",".join(allowed)],
        cwd=code,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    *said, answer = done.stdout.splitlines()
    return answer, [json.loads(line) for line in said]
