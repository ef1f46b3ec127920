"""The rows that all readers yield."""

from __future__ import annotations

from typing import Any, NamedTuple


class Row(NamedTuple):
    """One row of a dataset, or the reason why a place in the file is not a row."""

    number: int
    """Number of the row, from 1, including broken rows but not a heading. In a workbook, the row of the sheet."""
    line: int
    """Line of the decoded file where it begins, from 1; 0 if the file has no lines (Excel, Parquet)."""
    value: dict[str, Any] | None = None
    """Maps columns to cells, for tables, Excel, and Parquet. None if there is a `problem` or `data`."""
    problem: str = ""
    """Why it is not a row: `3 cells, the heading has 2`."""
    data: bytes = b""
    """For `json-lines` and `json`: the JSON text in UTF-8, on one line, without a line end, for the exact parser."""
    cut: bool = False
    """Whether the rest after a `problem` cannot be read."""


class Written(float):
    """A number that is shown as it was written: 1.50, not 1.5."""

    _text: str

    def __new__(cls, text: str) -> Written:
        """Return the number in a text."""
        found = super().__new__(cls, text)
        found._text = text
        return found

    def __str__(self) -> str:
        return self._text
