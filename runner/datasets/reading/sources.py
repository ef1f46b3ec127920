"""Sources of a dataset's bytes: a file, an object in a bucket, or standard input."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from runner import local_files
from runner.datasets.examples import Finding, Format
from runner.errors import DatasetError

STDIN = Path("-")
COMPRESSED = (".gz", ".zst", ".zip")


@dataclass(frozen=True, slots=True)
class RemoteObject:
    """An object in a bucket, with the properties of a path that reports need."""

    uri: str
    size: int
    """Size in bytes."""
    open: Callable[[], BinaryIO]
    """Returns a stream of its bytes; a checksum verifies them at the end."""

    def __str__(self) -> str:
        return self.uri

    @property
    def name(self) -> str:
        """Return the part of the object's name after the last slash."""
        return self.uri.rsplit("/", 1)[-1]

    @property
    def suffix(self) -> str:
        """Return the last suffix of the name, with its dot."""
        return PurePosixPath(self.name).suffix

    def as_posix(self) -> str:
        """Return the address."""
        return self.uri


Source = Path | RemoteObject


def missing(source: Source) -> str:
    """Return why a source cannot be read, or "" if it can: pipes and devices are read like files."""
    if isinstance(source, RemoteObject) or source == STDIN:
        return ""
    return local_files.missing(source)


def name_of(source: Source) -> str:
    """Return the name for messages."""
    return "standard input" if source == STDIN else source.name


def stem_of(source: Source) -> str:
    """Return the name of a source without its suffixes."""
    return "stdin" if source == STDIN else source.name.split(".")[0] or "dataset"


def command_for(source: Source, form: Format | None = None, *, nameless: bool = False, encoding: str = "") -> str:
    """Return the command that converts a source; `nameless` if its columns must be named."""
    named = source.uri if isinstance(source, RemoteObject) else _typed(source)
    output = "train.jsonl"
    if source != STDIN:
        stem = stem_of(source)
        folder = source.parent if isinstance(source, Path) else Path()
        candidates = [folder / f"{stem}{suffix}.jsonl" for suffix in ("", "-converted", "-converted-2")]
        output = _typed(next((path for path in candidates if not os.path.lexists(path)), candidates[-1]))
    extra = f" --encoding {encoding}" if encoding else ""
    extra += f" --to {form}" if form else ""
    extra += " --prompt-column NAME --answer-column NAME" if nameless else ""
    return f"runner data convert {shlex.quote(named)}{extra} --output {shlex.quote(output)}"


def _typed(path: Path) -> str:
    """Return a path in a form that the command line does not take for an option."""
    return f"./{path}" if str(path).startswith("-") and path != STDIN else str(path)


def plain_name(source: Source) -> str:
    """Return the name without a compression suffix."""
    return (
        "stdin.jsonl"
        if source == STDIN
        else source.name.removesuffix(source.suffix)
        if source.suffix in COMPRESSED
        else source.name
    )


def refusal(code: str, message: str, *, file: str = "", line: int = 0, fix: str = "") -> DatasetError:
    """Return the error of a file that cannot be read as a dataset, with its one finding."""
    finding = Finding(code=code, severity="error", file=file, line=line, message=message, fix=fix)
    return DatasetError(message, findings=[finding.to_json()], hint=fix or None)
