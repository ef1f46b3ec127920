"""Tables of other programs: Excel and OpenDocument workbooks, Parquet and Arrow files."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

from runner.datasets.reading.layouts import usual_names
from runner.datasets.reading.rows import Row
from runner.datasets.reading.sources import refusal
from runner.datasets.reading.tables import MOST_TITLES, heading_of, titles_above, titles_named
from runner.installation import require

_BATCH_ROWS = 1000
_BATCH_BYTES = 8 << 20
"""Rows with images are read a few at a time."""
_BUFFER_BYTES = 1 << 20
ARROW_FILE, ARROW_STREAM = b"ARROW1\0\0", b"\xff\xff\xff\xff"
"""How they begin; `Dataset.save_to_disk` of Hugging Face writes streams."""


def open_workbook(path: Path, name: str, notes: list[str]) -> tuple[str, list[str], Iterator[Row]]:
    """Return name, headings and rows of one sheet; others that are not empty are named in `notes`.

    It is the one whose headings have the most usual names, the first of several.

    Raises:
        DatasetError: it is no workbook, it is encrypted, or two columns have one name.
        EngineMissingError: python-calamine is not installed.
    """
    require("reading Excel workbooks", "data", python_calamine="python-calamine")
    from python_calamine import CalamineError, CalamineWorkbook

    try:
        with path.open("rb") as stream:
            workbook = CalamineWorkbook.from_filelike(stream)
        sheets = [sheet for sheet in map(workbook.get_sheet_by_name, workbook.sheet_names) if sheet.height]
    except (CalamineError, OSError, ValueError) as error:
        message = f"{name} cannot be read as a workbook: {error}"
        raise refusal("not-text", message, file=name, fix="save it as CSV") from error
    if not sheets:
        return "", [], iter(())
    heads = [list(islice(_texts(sheet), MOST_TITLES + 1)) for sheet in sheets]
    known = [usual_names(rows[titles_above(rows)]) if rows else 0 for rows in heads]
    chosen = known.index(max(known))
    if len(sheets) > 1:
        others = ", ".join(repr(sheet.name) for sheet in (sheets[:chosen] + sheets[chosen + 1 :])[:10])
        notes.append(f"only the sheet {sheets[chosen].name!r} is read, not {others}")
    first, rows = heads[chosen], islice(_texts(sheets[chosen]), len(heads[chosen]), None)
    above = titles_above(first)
    notes += titles_named(first[:above])
    heading, behind = (first[above], first[above + 1 :]) if first else ([], [])
    while heading and not heading[-1]:
        heading.pop()
    columns = heading_of(heading, notes, name)
    return sheets[chosen].name, columns, _sheet_rows(chain(behind, rows), columns)


def _texts(sheet: Any) -> Iterator[list[str]]:
    """Yield the rows that are not empty, as the sheet shows them."""
    rows = ([_shown(cell) for cell in row] for row in sheet.iter_rows())
    return (row for row in rows if any(row))


def _sheet_rows(rows: Iterator[list[str]], columns: list[str]) -> Iterator[Row]:
    number = 0
    for row in rows:
        if not any(row):
            continue
        number += 1
        if any(row[len(columns) :]):
            yield Row(number, 0, problem=f"a cell to the right of the last heading, {columns[-1]!r}")
        else:
            yield Row(number, 0, {column: cell for column, cell in zip(columns, row, strict=False) if cell})


def _shown(cell: Any) -> str:
    """Return a cell as a sheet shows it: 12, not 12.0; dates as ISO 8601."""
    if isinstance(cell, bool):
        return str(cell).upper()
    if isinstance(cell, float):
        return str(int(cell)) if cell.is_integer() and abs(cell) < 1e15 else repr(cell)
    if isinstance(cell, datetime.datetime):
        return cell.isoformat(" ") if cell.time() != datetime.time() else cell.date().isoformat()
    return cell.isoformat() if isinstance(cell, (datetime.date, datetime.time)) else str(cell)


def open_columns(path: Path, name: str, *, arrow: bool) -> tuple[list[str], Iterator[Row]]:
    """Return columns and rows of a Parquet or Arrow (Feather) file. Keys without a value are left out.

    Raises:
        DatasetError: it is broken, or two columns have one name; while reading too.
        EngineMissingError: pyarrow is not installed.
    """
    require(f"reading {'Arrow' if arrow else 'Parquet'}", "data", pyarrow="pyarrow")
    import pyarrow
    from pyarrow import ipc, parquet

    def broken(error: Exception) -> Exception:
        what = "Arrow" if arrow else "Parquet"
        return refusal("not-text", f"{name} is not a valid {what} file: {error}", file=name, fix="write it again")

    def rows() -> Iterator[Row]:
        number = 0
        try:
            for batch in batches:
                for value in batch.to_pylist():
                    number += 1
                    yield Row(number, 0, _without_nulls(value))
        except (pyarrow.ArrowException, OSError, ValueError) as error:
            raise broken(error) from error

    try:
        if arrow:
            source = pyarrow.memory_map(str(path))
            if source.read(len(ARROW_STREAM)) == ARROW_STREAM:
                source.seek(0)
                batches = file = ipc.open_stream(source)
            else:
                file = ipc.open_file(source)
                batches = (file.get_batch(place) for place in range(file.num_record_batches))
            names = file.schema.names
        else:
            file = parquet.ParquetFile(path, buffer_size=_BUFFER_BYTES, pre_buffer=False)
            groups = [file.metadata.row_group(place) for place in range(file.num_row_groups)]
            size = sum(group.total_byte_size for group in groups)
            count = max(1, min(_BATCH_ROWS, _BATCH_BYTES * file.metadata.num_rows // max(1, size)))
            batches, names = file.iter_batches(batch_size=count), file.schema_arrow.names
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise broken(error) from error
    heading_of(names, [], name)
    return names, rows()


def _without_nulls(value: Any) -> Any:
    """Leave out the keys without a value: a column of Parquet has every key of any of its rows."""
    if isinstance(value, dict):
        return {key: _without_nulls(child) for key, child in value.items() if child is not None}
    return [_without_nulls(child) for child in value] if isinstance(value, list) else value
