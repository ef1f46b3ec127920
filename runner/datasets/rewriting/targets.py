"""Outputs of datasets: a new file, or standard output; compressed if the name says so."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO

from runner import local_files
from runner.datasets.reading.sources import STDIN
from runner.errors import ConfigurationError
from runner.installation import require
from runner.local_files import unwritable

STDOUT = STDIN


def refuse_existing(*targets: Path) -> None:
    """Raise ConfigurationError if an output file exists."""
    problems = [f"{path} already exists" for path in targets if path != STDOUT and os.path.lexists(path)]
    if problems:
        raise ConfigurationError("; ".join(problems), problems=problems, hint="choose another name")


@contextmanager
def open_target(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that appears under its name only when it is complete, and never replaces another file.

    Args:
        path: `.gz` and `.zst` are compressed; `-` is standard output.

    Raises:
        ConfigurationError: the file exists, or the place is not writable.
        DiskError: the disk is full or read-only.
        EngineMissingError: the compressor is not installed.
    """
    if path == STDOUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    refuse_existing(path)
    compress = _compressor(path.suffix)
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:50]}-")
    except OSError as error:
        raise unwritable(path, error) from error
    aside = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as plain, compress(plain) as stream:
            yield stream
        aside.chmod(local_files.new_mode())
        _publish(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def _publish(aside: Path, path: Path) -> None:
    try:
        os.link(aside, path)  # unlike renaming, this fails if the file exists
    except FileExistsError:
        refuse_existing(path)
    except OSError:  # a file system without links
        refuse_existing(path)
        aside.rename(path)


def _compressor(suffix: str) -> Any:
    if suffix == ".zst":
        require("writing .zst", "data", zstandard="zstandard")
        import zstandard

        compressor = zstandard.ZstdCompressor(write_checksum=True)
        return lambda stream: compressor.stream_writer(stream, closefd=False)
    if suffix == ".gz":
        import gzip

        # Without name and time, so that the same content gives the same file.
        return lambda stream: gzip.GzipFile("", "wb", 6, stream, mtime=0)
    return nullcontext
