"""Writes the function's source into a folder: `python -m infra.idle_guard FOLDER`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from infra.idle_guard.source import files, requirements


def main(arguments: list[str]) -> int:
    """Write the files and return the exit status."""
    if len(arguments) != 1:
        sys.stderr.write(__doc__ or "")
        return 2
    folder = Path(arguments[0])
    for name, file in files().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder / name)
    (folder / "requirements.txt").write_text(requirements(), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
