"""Copies the manifests of an unapproved change, as data only: `python -m infra.automation.change SOURCE TARGET`.

The copy is a folder of manifests and datasets for code of the main branch to read. That code has an identity, so
nothing in the folder may point outside it: no links, no text in a manifest that is an absolute path or contains `..`,
and no more or larger files than a plan can need. All mistakes are reported at once. Exit code 1: something was refused.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

MOST_FILES = 2_000
MOST_BYTES = 1024 * 1024 * 1024
MANIFESTS = frozenset({".yaml", ".yml"})
DATA = frozenset({".jsonl", ".json", ".csv", ".tsv", ".parquet", ".gz", ".zst", ".zip", ".xlsx", ".ods", ".txt", ".md"})
_MOST_OF_A_MANIFEST = 1024 * 1024
_OUT = re.compile(
    r"(?:/|~|\\|[A-Za-z]:[\\/]|(?:.*[\\/])?\.\.(?:[\\/]|$)|(?!gs://)[A-Za-z][A-Za-z0-9+.-]*://)", re.DOTALL
)
"""Matches text that a program could read as a place outside the folder, including addresses other than gs://."""


def problems(source: Path) -> list[str]:
    """Return what is wrong with a folder, by file; [] if it is safe to copy."""
    found: list[str] = []
    files = size = 0
    for path in _entries(source):
        name = path.relative_to(source).as_posix()
        if path.is_symlink() or not path.is_file():
            found.append(f"{name}: neither a file nor a folder; links are not followed")
            continue
        files, size = files + 1, size + path.stat().st_size
        if path.suffix.lower() in MANIFESTS:
            found += [f"{name}: {problem}" for problem in _of_manifest(path)]
        elif path.suffix.lower() not in DATA:
            found.append(f"{name}: neither a manifest nor a data set ({', '.join(sorted(MANIFESTS | DATA))})")
    if files > MOST_FILES:
        found.append(f"{files} files; at most {MOST_FILES} are checked")
    if size > MOST_BYTES:
        found.append(f"{size} bytes; at most {MOST_BYTES} are checked. Put large data sets into a bucket.")
    return found


def _entries(folder: Path) -> Iterator[Path]:
    """Yield everything except folders, without following links."""
    for path, folders, files in os.walk(folder, followlinks=False):
        links = [name for name in folders if Path(path, name).is_symlink()]
        yield from (Path(path, name) for name in sorted([*files, *links]))


def _of_manifest(path: Path) -> Iterator[str]:
    import yaml

    with path.open("rb") as stream:
        content = stream.read(_MOST_OF_A_MANIFEST + 1)
    if len(content) > _MOST_OF_A_MANIFEST:
        yield f"larger than {_MOST_OF_A_MANIFEST} bytes"
        return
    try:
        # Check tokens, not values: this also shows the text that an alias or a duplicate key would hide.
        tokens = list(yaml.scan(content))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        yield f"is not YAML: {str(error).splitlines()[0]}"
        return
    if any(isinstance(token, yaml.TagToken) for token in tokens):
        yield "has a tag (!…), which hides what a value is"
    texts = [token.value for token in tokens if isinstance(token, yaml.ScalarToken)]
    for text in (text for text in texts if _OUT.match(text.strip())):
        yield f"{text[:80]!r} names something outside the folder; give a path below the manifest, or gs://"


def main(arguments: list[str]) -> int:
    """Copy the folder, or report what is wrong with it."""
    if len(arguments) != 2:
        sys.stderr.write(__doc__ or "")
        return 2
    source, target = Path(arguments[0]), Path(arguments[1])
    if not source.is_dir() or source.is_symlink():
        target.mkdir()  # the change deletes the last manifest
        return 0
    found = problems(source)
    for problem in found:
        sys.stderr.write(f"{problem}\n")
    if found:
        return 1
    shutil.copytree(source, target, symlinks=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
