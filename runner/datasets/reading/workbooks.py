"""Tables of other programs: Excel and OpenDocument workbooks, Parquet and Arrow files."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from runner.datasets.reading.layouts import usual_names
from runner.datasets.reading.rows import Row
from runner.datasets.reading.sources import refusal
from runner.datasets.reading.tables import MOST_TITLES, heading_of, titles_above, titles_named
from runner.datasets.reading.worksheets import ERRORS, error_note, letters, named, notes_of
from runner.installation import require

_BATCH_ROWS = 1000
_BATCH_BYTES = 8 << 20
"""Rows with images are read in small groups."""
_BUFFER_BYTES = 1 << 20
ARROW_FILE, ARROW_STREAM = b"ARROW1\0\0", b"\xff\xff\xff\xff"
"""The first bytes of these files; `Dataset.save_to_disk` of Hugging Face writes streams."""


_VISIBLE = "SheetVisibleEnum.Visible"


def open_workbook(path: Path, name: str, notes: list[str]) -> tuple[str, list[str], Iterator[Row]]:
    """Return name, headings and rows of one sheet; `notes` names the other sheets that are not empty.

    The sheet is the one whose headings have the most usual names, or the first of several.

    Raises:
        DatasetError: it is not a workbook, it is encrypted, or two columns have the same name.
        EngineMissingError: python-calamine is not installed.
    """
    require("reading Excel workbooks", "data", python_calamine="python-calamine")
    from python_calamine import CalamineError, CalamineWorkbook

    try:
        with path.open("rb") as stream:
            workbook = CalamineWorkbook.from_filelike(stream)
        sheets = [sheet for sheet in map(workbook.get_sheet_by_name, workbook.sheet_names) if sheet.height]
    except (CalamineError, OSError, ValueError) as error:
        message = f"{name} cannot be read as a workbook ({error})"
        raise refusal("not-text", message, file=name, fix="save it as CSV") from error
    if not sheets:
        return "", [], iter(())
    heads = [list(islice(_texts(sheet), MOST_TITLES + 1)) for sheet in sheets]
    known = [usual_names(rows[titles_above(rows)]) if rows else 0 for rows in heads]
    chosen = known.index(max(known))
    if len(sheets) > 1:
        others = ", ".join(repr(sheet.name) for sheet in (sheets[:chosen] + sheets[chosen + 1 :])[:10])
        notes.append(f"only the sheet {sheets[chosen].name!r} is read, not {others}")
    sheet, first = sheets[chosen], heads[chosen]
    if any(item.name == sheet.name and str(item.visible) != _VISIBLE for item in workbook.sheets_metadata):
        notes.append(f"the sheet {sheet.name!r} is hidden")
    above = titles_above(first)
    notes += titles_named(first[:above])
    heading = first[above] if first else []
    while heading and not heading[-1]:
        heading.pop()
    columns = heading_of(heading, notes, name)
    notes += notes_of(path, sheet.name, height=sheet.total_height + 1, width=sheet.total_width + 1)
    return sheet.name, columns, _sheet_rows(sheet, above, columns, notes)


def _texts(sheet: Any) -> Iterator[list[str]]:
    """Yield the rows that are not empty, as the sheet shows them."""
    rows = ([_shown(cell) for cell in row] for row in sheet.iter_rows())
    return (row for row in rows if any(row))


def _sheet_rows(sheet: Any, titles: int, columns: list[str], notes: list[str]) -> Iterator[Row]:
    """Yield the rows of data, numbered as in the sheet; `notes` lists cells that are read as something else."""
    left = sheet.start[1] if sheet.start else 0
    errors = []
    for number, row in _rows_below(sheet, titles, left, notes):
        for column, cell in enumerate(row):
            if cell in ERRORS:
                errors.append(f"{letters(left + column)}{number} ({cell})")
                row[column] = ""
        if not any(row):
            continue
        if any(row[len(columns) :]):
            yield Row(number, 0, problem=f"a cell to the right of the last heading, {columns[-1]!r}")
        else:
            yield Row(number, 0, {column: cell for column, cell in zip(columns, row, strict=False) if cell})
    if errors:
        notes.append(error_note(errors))


def _rows_below(sheet: Any, titles: int, left: int, notes: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield number and cells of the rows below the heading; the value of merged cells is in each of their rows."""
    merged: dict[int, list[tuple[int, int]]] = {}
    standing: dict[int, tuple[str, int]] = {}  # maps a column to a merged value and its last row
    passed = 0
    for number, cells in enumerate(sheet.iter_rows(), 1):
        row = [_shown(cell) for cell in cells]
        if passed > titles:
            for column, (value, last) in standing.items():
                row[column] = row[column] or (value if number <= last else "")
            for column, last in merged.get(number, ()):
                standing[column] = row[column], last
            yield number, row
        elif any(row):
            passed += 1
            if passed > titles:  # the row was the heading
                merged = _merged(sheet, number, left, notes)


def _merged(sheet: Any, heading: int, left: int, notes: list[str]) -> dict[int, list[tuple[int, int]]]:
    """Return the merged cells below the heading: by first row, the column and the last row; `notes` lists them."""
    found: dict[int, list[tuple[int, int]]] = {}
    places = []
    for (top, column), (bottom, right) in sorted(sheet.merged_cell_ranges or ()):
        if top + 1 > heading and left <= column:
            found.setdefault(top + 1, []).append((column - left, bottom + 1))
            places.append(f"{letters(column)}{top + 1}:{letters(right)}{bottom + 1}")
    if places:
        notes.append(f"the value of merged cells counts for each of their rows, in the first column: {named(places)}")
    return found


def _shown(cell: Any) -> str:
    """Return a cell as the sheet shows it: 12, not 12.0; dates as ISO 8601."""
    if isinstance(cell, bool):
        return str(cell).upper()
    if isinstance(cell, float):
        return str(int(cell)) if cell.is_integer() and abs(cell) < 1e15 else repr(cell)
    if isinstance(cell, datetime.datetime):
        return cell.isoformat(" ") if cell.time() != datetime.time() else cell.date().isoformat()
    if isinstance(cell, datetime.timedelta):
        minutes, seconds = divmod(round(cell.total_seconds()), 60)
        return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
    return cell.isoformat() if isinstance(cell, (datetime.date, datetime.time)) else str(cell)


def open_columns(path: Path, name: str, *, arrow: bool) -> tuple[list[str], Iterator[Row]]:
    """Return columns and rows of a Parquet or Arrow (Feather) file. Keys without a value are omitted.

    Raises:
        DatasetError: it is broken, or two columns have the same name; also raised while reading.
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
    """Omit the keys without a value: in Parquet, every row has a column for every key."""
    if isinstance(value, dict):
        return {key: _without_nulls(child) for key, child in value.items() if child is not None}
    return [_without_nulls(child) for child in value] if isinstance(value, list) else value
