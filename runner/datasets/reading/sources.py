"""Where the bytes of a dataset come from: a file, an object in a bucket, or standard input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from runner.datasets.examples import Finding
from runner.errors import DatasetError

STDIN = Path("-")
COMPRESSED = (".gz", ".zst", ".zip")


@dataclass(frozen=True, slots=True)
class RemoteObject:
    """An object in a bucket, with as much of a path's manners as reports need."""

    uri: str
    size: int
    """Bytes."""
    open: Callable[[], BinaryIO]
    """Returns a stream of its bytes, which are verified at their end."""

    def __str__(self) -> str:
        return self.uri

    @property
    def name(self) -> str:
        """Return the part of the object's name behind the last slash."""
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
    """Say why there is nothing to read, "" where there is: pipes and devices are read as files are."""
    if isinstance(source, RemoteObject) or source == STDIN:
        return ""
    if source.is_dir():
        return f"{source}: a folder, not a file"
    return "" if source.exists() else f"{source}: no such file"


def name_of(source: Source) -> str:
    """Return the name for messages."""
    return "standard input" if source == STDIN else source.name


def plain_name(source: Source) -> str:
    """Return the name without a suffix of compression."""
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
