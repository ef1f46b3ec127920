"""Tables as text: CSV and TSV, with the delimiter determined from the beginning of the file."""

from __future__ import annotations

import contextlib
import csv
import io
import re
from collections.abc import Iterator
from itertools import accumulate, islice
from typing import Any

from runner.datasets.reading.layouts import Plan, usual_names
from runner.datasets.reading.rows import Row
from runner.datasets.reading.sources import refusal
from runner.wording import counted

_DELIMITERS = {",": "','", ";": "';'", "\t": "tab", "|": "'|'"}
_SAMPLE_ROWS = 100
MOST_TITLES = 5
"""Maximum number of one-cell rows above the headings."""
_MAX_ROW_CHARACTERS = 32 << 20
"""Maximum characters of a row; Python's reader uses four bytes for each."""
_TOO_LONG = f"the row is longer than {_MAX_ROW_CHARACTERS >> 20} Mi characters"
_SEP = re.compile(r'"?sep=(.)"?\r?\n?', re.IGNORECASE)


def plan_table(text: str, *, complete: bool, suffix: str) -> tuple[Plan, list[str], float]:
    """Return how to read a table, its heading as written, and the share of rows as wide as the heading.

    The delimiter is the one that gives the most columns with a usual name, then the most rows as wide as the heading.

    Args:
        text: the beginning of a file.
        complete: whether it is the whole file.
        suffix: suffix of the file's name, for a table with one column.
    """
    plan = Plan(layout="table")
    notes: list[str] = []
    named = _SEP.match(text)
    if named is not None:
        plan.delimiter = named[1]
        notes.append(f"the line {named[0].strip()} names the separator")
    best: tuple[int, float, int] | None = None
    heading: list[str] = []
    for delimiter in plan.delimiter if named else "\t,;|" if suffix == ".tsv" else ",;\t|":
        ends, rows = _sample(text[named.end() if named else 0 :], delimiter)
        if len(rows) > 1 and not complete:
            rows.pop()
        above = titles_above(rows)
        titles, rows = rows[:above], rows[above:]
        first = rows[0] if rows else []
        known = usual_names(first)
        share = sum(len(row) == len(first) for row in rows) / len(rows) if len(first) > 1 else 0.0
        if best is None or (known, share, len(first)) > best:
            best, heading, plan.delimiter = (known, share, len(first)), first, delimiter
            plan.skip_lines = bool(named) + (ends[above - 1] if above else 0)
            plan.notes = notes + titles_named(titles)
    kind = "TSV" if plan.delimiter == "\t" else "CSV"
    plan.description = f"{kind} separated by {_DELIMITERS.get(plan.delimiter, repr(plan.delimiter))}"
    return plan, heading, best[1] if best else 0.0


def _sample(text: str, delimiter: str) -> tuple[list[int], list[list[str]]]:
    """Return the first rows that are not blank, and the line number on which each ends."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    ends: list[int] = []
    rows: list[list[str]] = []
    with contextlib.suppress(csv.Error):
        for row in islice(reader, _SAMPLE_ROWS):
            if any(map(str.strip, row)):
                ends.append(reader.line_num)
                rows.append(row)
    return ends, rows


def titles_above(rows: list[list[str]]) -> int:
    """Return the number of one-cell rows above the headings; 0 if no row is certainly the headings."""
    for count, row in enumerate(rows[: MOST_TITLES + 1]):
        known = usual_names(row)
        if known > 1:
            return count
        if known or sum(bool(cell.strip()) for cell in row) != 1:
            break
    return 0


def titles_named(rows: list[list[str]]) -> list[str]:
    """Report that each row above the headings is not carried over."""
    titles = ["".join(row).strip() for row in rows]
    return [f"{title[:80]!r} is above the headings and is left out" for title in titles]


def heading_of(cells: list[str], notes: list[str], name: str) -> list[str]:
    """Return the column names; one without a heading is called `column 3`. Raises DatasetError if two are equal."""
    columns = [str(cell).strip() or f"column {place}" for place, cell in enumerate(cells, 1)]
    notes += (f"{column} has no heading" for column, cell in zip(columns, cells, strict=True) if not str(cell).strip())
    seen: dict[str, int] = {}
    for place, column in enumerate(columns):
        if (first := seen.setdefault(column, place)) < place:
            message = f"columns {first + 1} and {place + 1} of {name} have the same heading, {column!r}"
            raise refusal("duplicate-column", message, file=name, line=1, fix="give each column a different name")
    return columns


def read_table(stream: Any, plan: Plan, columns: list[str], name: str) -> Iterator[Row]:
    """Yield the rows of a table after its heading.

    Args:
        stream: buffered UTF-8.
        plan: see `plan_table`.
        columns: names of the columns.
        name: name of the file, for messages.

    Raises:
        DatasetError: the heading is broken.
    """
    lines = _Lines(stream, plan.delimiter, plan.skip_lines)
    csv.field_size_limit(_MAX_ROW_CHARACTERS)
    reader = csv.reader(lines, delimiter=plan.delimiter, strict=True)
    number = -1
    while True:
        line = lines.start_row()
        try:
            cells = next(reader, None)
        except csv.Error as error:
            problem = lines.explain(error)
            if number < 0:
                message = f"line {line} of {name} is not a heading: {problem}"
                raise refusal("not-text", message, file=name, line=line, fix="correct the line") from error
            number += 1
            yield Row(number, line, problem=problem, cut=lines.ended)
            if lines.ended:
                return
            continue
        if cells is None:
            return
        blank = not any(map(str.strip, cells))
        if blank and (number < 0 or not cells or len(cells) == 1 != len(columns)):
            continue
        number += 1
        if not number:
            continue
        if len(cells) == len(columns):
            yield Row(number, line, dict(zip(columns, cells, strict=True)))
        else:
            yield Row(number, line, problem=f"{counted(len(cells), 'cell')}, the heading has {len(columns)}")


class _Lines:
    """The lines of a text, and the lines of the current row."""

    def __init__(self, stream: Any, delimiter: str, skipped: int) -> None:
        self._delimiter = delimiter
        self._text = io.TextIOWrapper(stream, encoding="utf-8", newline="")
        self._row: list[str] = []
        self._size = 0
        self._count = skipped
        self.ended = False
        for _ in range(skipped):
            self._text.readline()

    def start_row(self) -> int:
        """Remove the lines of the previous row; return the number of the next line."""
        self._row.clear()
        self._size = 0
        return self._count + 1

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._text.readline(_MAX_ROW_CHARACTERS + 1)
        self._size += len(line)
        if self._size > _MAX_ROW_CHARACTERS:
            self.ended = True
            raise csv.Error(_TOO_LONG)
        if not line:
            self.ended = True
            raise StopIteration
        self._count += 1
        self._row.append(line)
        return line

    def explain(self, error: csv.Error) -> str:
        """Return what is wrong with the row, with the line where the last quote opens."""
        if str(error) == _TOO_LONG:
            return f"{_TOO_LONG}{' (a quote may not be closed)' if self._row else ''}; nothing after it can be read"
        text, opened, inside = "".join(self._row), 0, False
        for quotes in re.finditer('"+', text):
            starts = not quotes.start() or text[quotes.start() - 1] in f"{self._delimiter}\r\n"
            if starts and not inside:
                opened = quotes.start()
            if len(quotes[0]) % 2:  # the other quotes are inside a quoted cell, or an empty cell
                inside = starts and not inside
        line = self._count - sum(end > opened for end in accumulate(map(len, self._row))) + 1
        if str(error) == "unexpected end of data":
            return f"the quote that opens in line {line} is not closed before the end of the file"
        if "expected after" in str(error):
            return f"text follows the quote that closes the cell which opens in line {line}"
        return str(error)
