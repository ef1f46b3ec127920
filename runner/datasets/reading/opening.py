"""The entry point: opens any dataset according to its first bytes, and returns lines or rows with their places."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from runner.datasets.reading.compression import HEAD_BYTES, Compression, OpenedBytes, buffered, open_bytes
from runner.datasets.reading.documents import read_values
from runner.datasets.reading.encodings import NAMES, as_utf8, detect, known_encoding, not_decodable
from runner.datasets.reading.layouts import Layout, Plan, holds_object, plan_json, usual_names
from runner.datasets.reading.lines import MAX_LINE_BYTES, raw_lines
from runner.datasets.reading.rows import Row
from runner.datasets.reading.sources import STDIN, RemoteObject, Source, name_of, refusal
from runner.datasets.reading.tables import heading_of, plan_table, read_table
from runner.datasets.reading.workbooks import ARROW_FILE, ARROW_STREAM, open_columns, open_workbook

__all__ = ["Layout", "OpenedDataset", "Row", "open_dataset"]

_UTF8 = ("utf-8", "utf-8-sig")
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_PARQUET = b"PAR1"
_SIGNATURES = (
    (0, b"%PDF-", "PDF"),
    (0, b"\x89PNG\r\n", "a PNG image"),
    (0, b"\xff\xd8\xff", "a JPEG image"),
    (0, b"GIF87a", "a GIF image"),
    (0, b"GIF89a", "a GIF image"),
    (8, b"WEBPVP8", "a WEBP image"),
    (0, b"SQLite format 3\0", "an SQLite database"),
    (4, b"1AY&SY", "compressed by bzip2"),
    (0, b"\xfd7zXZ\0", "compressed by xz"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (0, b"Rar!\x1a\x07", "a RAR archive"),
    (257, b"ustar", "a tar archive"),
    (0, b"PK\x05\x06", "an empty zip archive"),
    (0, b"\x89HDF\r\n", "an HDF5 file"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"Obj\x01", "an Avro file"),
    (0, b"\x7fELF", "a program"),
)
_FORMATS = "name a file of JSON Lines, JSON, CSV, Excel or Parquet"
_TEXTS = (
    (r"<!doctype html|<html|<head", "an HTML page, such as a page to log in", "download the file itself"),
    (r"<\?xml", "XML", _FORMATS),
    (r"version https://git-lfs\.", "a pointer of Git LFS, not the file itself", "`git lfs pull` fetches the file"),
    (r"\{\\rtf", "Rich Text", _FORMATS),
    (r"(---\s+)?-[ ]+[\w\"']+:\s", "YAML", _FORMATS),
    (r"\|?[^\n|]*\|[^\n]*\n[ \t]*\|?[ \t:]*--[-|: \t]*\n", "a table in Markdown", _FORMATS),
)
"""Beginnings of texts that contain no dataset, with their type and the remedy."""


@dataclass(kw_only=True)
class OpenedDataset:
    """An open dataset. It can be read once: by `lines` or by `rows`."""

    name: str
    """Name of the source, for messages."""
    source: Source
    position: Callable[[], int]
    """Returns the number of bytes read from the source."""
    compression: Compression = ""
    encoding: str = "utf-8"
    """Python's name; `utf-8-sig` with a byte order mark, which the lines of JSON Lines keep."""
    layout: Layout = "json-lines"
    description: str = "JSON Lines"
    """The layout in words: `a JSON array`, `CSV separated by ';'`, `an Excel workbook (sheet 'Tabelle1')`."""
    notes: list[str] = field(default_factory=list)
    """What was decoded or assumed: `UTF-16 LE, read as such`."""
    columns: list[str] = field(default_factory=list)
    """Headings of a table or Excel sheet, or columns of Parquet, in order."""
    head: str = ""
    """The beginning of the decoded text; surrogates are bytes that are not UTF-8. Empty for workbooks and Parquet."""
    _stream: BinaryIO | None = None
    _rows: Callable[[], Iterator[Row]] | None = None

    @property
    def size(self) -> int | None:
        """Return the size of the source in bytes; None for a pipe, whose size is unknown."""
        if isinstance(self.source, RemoteObject):
            return self.source.size
        return self.source.stat().st_size if self.source != STDIN and self.source.is_file() else None

    @property
    def is_plain(self) -> bool:
        """Return whether it is a local JSON Lines file whose own bytes are the lines and can be read at any place."""
        local = isinstance(self.source, Path) and self.source != STDIN and self.source.is_file()
        return local and not self.compression and self.layout == "json-lines" and self.encoding in _UTF8

    def lines(self) -> BinaryIO:
        """Return the buffered UTF-8 bytes of JSON Lines from their beginning; the file itself if `is_plain`."""
        assert self._stream is not None, f"{self.description} has no lines"  # noqa: S101
        return self._stream

    def rows(self) -> Iterator[Row]:
        """Yield the rows of any layout, in order, without blank lines.

        Raises:
            DatasetError: the rest cannot be read: broken compression, or a byte that is invalid in the encoding.
        """
        return self._rows() if self._rows is not None else _line_rows(self.lines())


def _line_rows(stream: BinaryIO) -> Iterator[Row]:
    number = 0
    for raw in raw_lines(stream):
        if raw.too_long or raw.data.strip():
            number += 1
            problem = f"the line is longer than {MAX_LINE_BYTES >> 20} MiB" if raw.too_long else ""
            yield Row(number, raw.number, problem=problem, data=b"" if problem else raw.data)


@contextmanager
def open_dataset(
    source: Source, *, encoding: str | None = None, layout: Layout | None = None
) -> Iterator[OpenedDataset]:
    """Open a dataset: a file, standard input or an object in a bucket.

    Its first bytes determine its type; its name decides only if they are ambiguous.

    Args:
        source: file, object or standard input; it is read once, in order.
        encoding: Python's name of the encoding, if it is known; decoding is strict.
        layout: layout, if it is known.

    Raises:
        ConfigurationError: the encoding is unknown, or the file does not exist or cannot be read.
        DatasetError: not a dataset, or not in that layout (code `not-text`), an encoding in doubt (`not-utf8`), two
            columns with the same name (`duplicate-column`).
        EngineMissingError: a library for the format is not installed.
    """
    given = known_encoding(encoding) if encoding else None
    with open_bytes(source) as opened, ExitStack() as stack:
        dataset = OpenedDataset(name=name_of(source), source=source, position=opened.position)
        dataset.compression, dataset.notes = opened.compression, opened.notes
        if not _open_binary(dataset, opened, layout, stack):
            _open_text(dataset, opened, given, layout)
        yield dataset


def _open_binary(dataset: OpenedDataset, opened: OpenedBytes, layout: Layout | None, stack: ExitStack) -> bool:
    """Open a workbook, Parquet or Arrow file. Return whether it is one. Raises DatasetError if it has no dataset."""
    head, name = opened.head, dataset.name
    found: Layout | None = None
    if opened.workbook or head.startswith(_OLE):
        found, what = "excel", "an Excel workbook"
    elif head.startswith((_PARQUET, ARROW_FILE, ARROW_STREAM)):
        found, what = "parquet", "Parquet" if head.startswith(_PARQUET) else "Arrow"
    else:
        what = next((what for place, magic, what in _SIGNATURES if head.startswith(magic, place)), "")
    if (what and found is None) or (layout not in {None, found} and (found or layout in {"excel", "parquet"})):
        wanted = f"not {layout}" if layout else "not a dataset"
        fix = "convert it" if found else _FORMATS
        raise refusal("not-text", f"the file is {what or 'text'}, {wanted}", file=name, line=1, fix=fix)
    if found is None:
        return False
    dataset.layout = found
    path = opened.local_copy(stack)
    if found == "excel":
        sheet, dataset.columns, rows = open_workbook(path, name, dataset.notes)
        dataset.description = f"{what} (sheet {sheet!r})"
    else:
        dataset.columns, rows = open_columns(path, name, arrow=what == "Arrow")
        dataset.description = what
    dataset._rows = lambda: rows
    return True


def _open_text(dataset: OpenedDataset, opened: OpenedBytes, given: str | None, layout: Layout | None) -> None:
    head, complete = opened.head, len(opened.head) < HEAD_BYTES
    found, allowed = (given, b"") if given else detect(head, complete=complete)
    errors = "replace" if found and found not in _UTF8 else "surrogateescape"
    try:
        text = codecs.getincrementaldecoder(found or "utf-8")(errors).decode(head).removeprefix("\ufeff")
    except UnicodeError as error:  # UTF-16 was specified, and there is no byte order mark
        raise not_decodable(dataset.source, found, 1, 0, str(error)) from error
    for begins, what, fix in () if layout else _TEXTS:
        if re.match(begins, text.lstrip(), re.IGNORECASE):
            raise refusal("not-text", f"the file is {what}", file=dataset.name, line=1, fix=fix)
    plan, heading = _plan(text, complete, PurePosixPath(opened.name).suffix.lower(), layout)
    dataset.head, dataset.layout, dataset.description = text, plan.layout, plan.description
    dataset.notes += plan.notes
    if plan.layout == "json-lines" and not found:
        dataset.notes.append("not all of it is UTF-8")
        found = "utf-8"  # the exact parser reports the lines
    if not found:
        broken = _first_error(head)
        line = head.count(b"\n", 0, broken.start) + 1
        raise not_decodable(dataset.source, "utf-8", line, broken.start, broken.reason, text=head)
    dataset.encoding = found
    if found in NAMES and not given:
        dataset.notes.insert(0, f"{NAMES[found]}, read as such")
    stream: BinaryIO = opened.stream
    if plan.layout != "json-lines" or found not in _UTF8:
        stream = buffered(as_utf8(stream, found, source=dataset.source, allowed=allowed))
    dataset._stream = stream
    if plan.layout == "json":
        dataset._rows = lambda: read_values(stream, plan)
    elif plan.layout == "table":
        dataset.columns = heading_of(heading, dataset.notes, dataset.name)
        dataset._rows = lambda: read_table(stream, plan, dataset.columns, dataset.name)


def _first_error(head: bytes) -> UnicodeDecodeError:
    try:
        head.decode()
    except UnicodeDecodeError as error:
        return error
    raise AssertionError("the bytes are UTF-8")


def _plan(text: str, complete: bool, suffix: str, layout: Layout | None) -> tuple[Plan, list[str]]:
    if layout == "json-lines" or not text.strip():
        return Plan(layout=layout or "json-lines"), []
    if text.lstrip()[0] in "[{" and layout != "table":
        return plan_json(text, complete=complete, forced=layout == "json"), []
    if layout == "json":
        return Plan(layout="json", description="JSON"), []
    plan, heading, share = plan_table(text, complete=complete, suffix=suffix)
    if layout is None and suffix not in {".csv", ".tsv"}:
        known = usual_names(heading)
        lines = suffix in {".jsonl", ".ndjson", ".json"}
        if holds_object(text) or (known < 2 if lines else not known and share < 1):
            return Plan(), []
    return plan, heading
