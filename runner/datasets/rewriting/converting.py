"""Writes datasets of any layout and shape as lines of a documented format."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from runner.datasets.checking.compiled import Reshaped, reshaper
from runner.datasets.examples import Format
from runner.datasets.reading import native
from runner.datasets.reading.lines import RawLine, blocks, seek_range
from runner.datasets.reading.opening import Layout, OpenedDataset, open_dataset
from runner.datasets.reading.sources import Source, name_of
from runner.datasets.records.adapting import Columns
from runner.datasets.records.lines import LineMaker
from runner.datasets.records.local_images import image_reader
from runner.datasets.rewriting.outcome import Outcome, Place, Progress
from runner.datasets.rewriting.targets import open_target, refuse_existing
from runner.errors import ConfigurationError

__all__ = ["Columns", "convert_file"]

Reshape = Callable[[memoryview], Reshaped]


def convert_file(
    path: Source,
    output: Path,
    form: Format | None = None,
    *,
    columns: Columns | None = None,
    encoding: str | None = None,
    layout: Layout | None = None,
    compiled: bool = True,
    progress: Progress | None = None,
) -> Outcome:
    """Write a dataset's rows as lines of a documented format.

    Supported input: see `open_dataset` for layouts and encodings, `adapt` for shapes. Images with local paths are
    embedded in the line; they must be in the dataset's folder or below.

    Args:
        path: file, object or standard input.
        output: path of the output; must not exist. Compressed if its name says so.
        form: format of the output; None keeps a documented format, and otherwise writes chats.
        columns: columns of the prompt, the answer and the system text, if their names are not the usual ones.
        encoding: encoding of the file, if it is in doubt.
        layout: layout of the file, if it is in doubt.
        compiled: write documented JSON Lines with the compiled package if it is installed.
        progress: see `Progress`; called repeatedly.

    Raises:
        ConfigurationError: the input does not exist, the output exists, or a column is missing.
        DatasetError: the file cannot be read, or nothing would be written.
        EngineMissingError: a library for the layout is not installed.
    """
    refuse_existing(output)
    with open_dataset(path, encoding=encoding, layout=layout) as opened:
        outcome = Outcome(output=output, description=opened.description, notes=opened.notes)
        maker = LineMaker(form, image_reader(path), columns=columns)
        with open_target(output) as target:
            writer = _Writer(maker, outcome, target)
            if opened.layout == "json-lines":
                lines = outcome.watched(blocks(opened.lines()), opened, progress, every=8)
                writer.lines(lines, reshaper_for(form, compiled=compiled))
            else:
                writer.rows(opened, columns or Columns(), progress)
            outcome.finish(name_of(path))
        outcome.format = maker.form
    return outcome


def reshaper_for(form: Format | None, *, compiled: bool = True) -> Reshape | None:
    """Return the compiled writer for a format; None if it is not installed, or no format is known."""
    return reshaper(form) if form and compiled and native.is_installed() else None


def convert_range(
    stream: BinaryIO, start: int, end: int, target: Any, maker: LineMaker, reshape: Reshape | None
) -> tuple[Outcome, int]:
    """Convert the JSON Lines whose first byte is in a range; return the account and the number of lines.

    Args:
        stream: a buffered, seekable stream.
        start: offset of the first byte; if it is inside a line, that line belongs to the range before.
        end: offset after the last byte.
        target: the output.
        maker: creates the lines.
        reshape: writer for lines that are certainly good, see `reshaper_for`.
    """
    outcome = Outcome(output=Path())
    # Lines of a later range are numbered from 2: only the first line of a file can have a byte order mark.
    base = 1 if start else 0
    remaining = seek_range(stream, start, end)
    writer = _Writer(maker, outcome, target)
    return outcome, writer.lines(blocks(stream, remaining), reshape, base) - base


@dataclass(slots=True)
class _Writer:
    maker: LineMaker
    outcome: Outcome
    target: Any

    def lines(self, found: Iterable[memoryview | None], reshape: Reshape | None, base: int = 0) -> int:
        """Convert blocks of JSON Lines that come after `base` lines; return the number of lines including those."""
        for block in found:
            if block is None:
                base += 1
                self.outcome.drop(Place(base, base), "the line is too long")
            elif reshape is not None:
                base += self._compiled(reshape(block), block, base)
            else:
                lines = bytes(block).removesuffix(b"\n").split(b"\n")
                for number, line in enumerate(lines, base + 1):
                    self.line(number, line)
                base += len(lines)
        return base

    def _compiled(self, reshaped: Reshaped, block: memoryview, base: int) -> int:
        """Write the lines of a block that comes after `base` other lines; return their number."""
        made, count, rows, others = reshaped
        self.outcome.rows += rows
        self.outcome.read += rows
        written = 0
        for index, start, end, place in others:
            self.target.write(made[written:place])
            written = place
            self.line(base + index + 1, bytes(block[start:end]))
        self.target.write(made[written:] if written else made)
        return count

    def line(self, number: int, line: bytes) -> None:
        """Convert one line."""
        for made in self.maker.of_text(RawLine(number, line.rstrip(b"\r\n"))):
            self.outcome.write(Place(number, number), made, self.target)

    def rows(self, opened: OpenedDataset, columns: Columns, progress: Progress | None) -> None:
        """Convert rows of other layouts."""
        missing = [name for name in columns.named if opened.columns and name not in opened.columns]
        if missing:
            there = ", ".join(map(repr, opened.columns[:20]))
            message = f"no column {', '.join(map(repr, missing))}: there are {there}"
            raise ConfigurationError(message, hint="name the columns with --prompt-column and --answer-column")
        for row in self.outcome.watched(opened.rows(), opened, progress):
            for made in self.maker.of_row(row):
                self.outcome.write(Place(row.number, row.line), made, self.target)
            if row.cut:
                raise self.outcome.cut(opened.name)
