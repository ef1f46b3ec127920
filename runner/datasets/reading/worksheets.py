"""What the values of an Excel sheet do not show: errors, formulas without a saved value, hidden rows and columns."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from posixpath import join, normpath
from typing import Any
from xml.parsers import expat

_STEP_BYTES = 1 << 20
_NAMED = 10
"""Places that a note names; it counts the others."""
_ODD = re.compile(rb"""\bt=["']e["']|[<:]f[\s>/]|\bhidden=["'](?:1|t)""")
"""In the XML of a sheet that has anything to tell; no other is parsed."""
_OVERLAP = 32
ERRORS = frozenset({"#N/A", "#REF!", "#VALUE!", "#DIV/0!", "#NAME?", "#NULL!", "#NUM!"})
"""What a sheet shows where a formula has failed."""


def letters(column: int) -> str:
    """Return the name of a column, from 0: `A`, `AA`."""
    name = ""
    column += 1
    while column:
        column, rest = divmod(column - 1, 26)
        name = chr(ord("A") + rest) + name
    return name


def named(places: list[str]) -> str:
    """Return the first places of many, and how many there are besides."""
    more = len(places) - _NAMED
    return ", ".join(places[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")


def error_note(places: list[str]) -> str:
    """Return the note about cells that are errors."""
    return f"cells with errors are read as empty: {named(places)}"


def notes_of(path: Path, sheet: str, *, height: int, width: int) -> list[str]:
    """Return notes about a sheet: which cells are read as empty, and what is read although it is hidden.

    Args:
        path: an .xlsx file; others have nothing to tell here.
        sheet: name of the sheet.
        height: rows with values; what is hidden behind them is no data.
        width: columns with values.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            part = _part(archive, sheet)
            if part is None or not any(_ODD.search(block) for block in _overlapping(archive, part)):
                return []
            found = _Cells()
            _parse(archive, part, found.start, found.end, found.text)
    except (zipfile.BadZipFile, KeyError, expat.ExpatError, OSError):
        return []  # another kind of workbook, or one of which only the values can be read
    return list(found.notes(height, width))


@dataclass(slots=True)
class _Cells:
    """What is odd about the cells of a sheet, in the order of the sheet."""

    errors: list[str] = field(default_factory=list)
    formulas: list[str] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    columns: list[int] = field(default_factory=list)
    _row: int = 0
    _column: int = 0
    _cell: dict[str, str] | None = None
    _formula: bool = False
    _value: str = ""
    _inside: bool = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "c":
            self._cell, self._formula, self._value = attributes, False, ""
            self._column += 1
        elif name == "f":
            self._formula = True
        elif name == "v":
            self._inside = True
        elif name == "row":
            self._row, self._column = int(attributes.get("r", self._row + 1)), 0
            if attributes.get("hidden") in {"1", "true"}:
                self.rows.append(self._row)
        elif name == "col" and attributes.get("hidden") in {"1", "true"}:
            self.columns += range(int(attributes["min"]), min(int(attributes["max"]), 1 << 14) + 1)

    def text(self, text: str) -> None:
        if self._inside:
            self._value += text

    def end(self, name: str) -> None:
        if name == "v":
            self._inside = False
        elif name == "c" and self._cell is not None:
            kind = self._cell.get("t")
            place = self._cell.get("r") or f"{letters(self._column - 1)}{self._row}"
            if kind == "e":
                self.errors.append(f"{place} ({self._value})")
            elif self._formula and not self._value and kind != "str":  # a text that is empty was calculated
                self.formulas.append(place)
            self._cell = None

    def notes(self, height: int, width: int) -> Iterator[str]:
        if self.errors:
            yield error_note(self.errors)
        if self.formulas:
            yield (
                f"formulas without a saved value are read as empty: {named(self.formulas)}; "
                "open the workbook in Excel or LibreOffice and save it"
            )
        rows = _ranges([row for row in self.rows if row <= height], str)
        columns = _ranges([column for column in self.columns if column <= width], lambda number: letters(number - 1))
        if rows:
            yield f"hidden rows are read: {named(rows)}"
        if columns:
            yield f"hidden columns are read: {named(columns)}"


def _ranges(numbers: list[int], name: Callable[[int], str]) -> list[str]:
    """Return `8-12` and `15` for rising numbers."""
    runs = (list(run) for _, run in groupby(enumerate(numbers), lambda item: item[1] - item[0]))
    ends = ((run[0][1], run[-1][1]) for run in runs)
    return [name(first) if first == last else f"{name(first)}-{name(last)}" for first, last in ends]


def _part(archive: zipfile.ZipFile, sheet: str) -> str | None:
    """Return the name of the archive's file that is a sheet."""
    relation = ""

    def sheets(name: str, attributes: dict[str, str]) -> None:
        nonlocal relation
        if name == "sheet" and attributes.get("name") == sheet:
            relation = next((value for key, value in attributes.items() if key.endswith("id") and key != "sheetId"), "")

    target: str | None = None

    def relations(name: str, attributes: dict[str, str]) -> None:
        nonlocal target
        if name == "Relationship" and attributes.get("Id") == relation:
            target = attributes.get("Target")

    _parse(archive, "xl/workbook.xml", sheets)
    _parse(archive, "xl/_rels/workbook.xml.rels", relations)
    return None if target is None else normpath(join("/xl", target)).lstrip("/")


def _parse(
    archive: zipfile.ZipFile,
    part: str,
    start: Callable[[str, dict[str, str]], None],
    end: Callable[[str], None] | None = None,
    text: Callable[[str], None] | None = None,
) -> None:
    """Call back for the elements of an XML file, whose names come without their prefix."""
    parser: Any = expat.ParserCreate()
    parser.StartElementHandler = lambda name, attributes: start(name.rpartition(":")[2], attributes)
    if end is not None:
        parser.EndElementHandler = lambda name: end(name.rpartition(":")[2])
    if text is not None:
        parser.CharacterDataHandler = text
    for block in _blocks(archive, part):
        parser.Parse(block)
    parser.Parse(b"", True)


def _blocks(archive: zipfile.ZipFile, part: str) -> Iterator[bytes]:
    with archive.open(part) as stream:
        while block := stream.read(_STEP_BYTES):
            yield block


def _overlapping(archive: zipfile.ZipFile, part: str) -> Iterator[bytes]:
    """Yield blocks that begin with the end of the one before, so that nothing is torn."""
    before = b""
    for block in _blocks(archive, part):
        yield before + block
        before = block[-_OVERLAP:]
