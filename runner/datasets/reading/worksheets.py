"""Finds what an Excel sheet's values do not show: errors, formulas without a saved value, hidden rows and columns."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from posixpath import join, normpath
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

_STEP_BYTES = 1 << 20
_NAMED = 10
"""Maximum number of places that a note names; it counts the others."""
_ODD = re.compile(rb"""\bt=["']e["']|[<:]f[\s>/]|\bhidden=["'](?:1|t)""")
"""Appears in the XML of a sheet that needs notes; no other sheet is parsed."""
_OVERLAP = 32
ERRORS = frozenset({"#N/A", "#REF!", "#VALUE!", "#DIV/0!", "#NAME?", "#NULL!", "#NUM!"})
"""What a sheet shows if a formula has failed."""


def letters(column: int) -> str:
    """Return the name of a column, from 0: `A`, `AA`."""
    name = ""
    column += 1
    while column:
        column, rest = divmod(column - 1, 26)
        name = chr(ord("A") + rest) + name
    return name


def named(places: list[str]) -> str:
    """Return the first of many places, and the number of the others."""
    more = len(places) - _NAMED
    return ", ".join(places[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")


def error_note(places: list[str]) -> str:
    """Return the note about cells that are errors."""
    return f"cells with errors are read as empty: {named(places)}"


def notes_of(path: Path, sheet: str, *, height: int, width: int) -> list[str]:
    """Return notes about a sheet: cells that are read as empty, and hidden content that is read.

    Args:
        path: an .xlsx file; other files have no notes.
        sheet: name of the sheet.
        height: number of rows with values; hidden rows after them are not data.
        width: number of columns with values.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            part = _part(archive, sheet)
            if part is None or not any(_ODD.search(block) for block in _overlapping(archive, part)):
                return []
            return list(_notes(archive, part, height, width))
    except (zipfile.BadZipFile, KeyError, ElementTree.ParseError, OSError):
        return []  # another kind of workbook, or only its values can be read


def _notes(archive: zipfile.ZipFile, part: str, height: int, width: int) -> Iterator[str]:
    errors, formulas, rows, columns = list[str](), list[str](), list[int](), list[int]()
    row = 0
    for name, element in _elements(archive, part):
        hidden = element.get("hidden") in {"1", "true"}
        if name == "col" and hidden:
            columns += range(int(element.attrib["min"]), min(int(element.attrib["max"]), width) + 1)
        elif name == "row":
            row = int(element.get("r", row + 1))
            if hidden and row <= height:
                rows.append(row)
            for column, cell in enumerate(element):
                found = {_name(child): child.text for child in cell}
                place, kind, value = cell.get("r") or f"{letters(column)}{row}", cell.get("t"), found.get("v") or ""
                if kind == "e":
                    errors.append(f"{place} ({value})")
                elif "f" in found and not value and kind != "str":  # an empty text is a calculated value
                    formulas.append(place)
    if errors:
        yield error_note(errors)
    if formulas:
        yield (
            f"formulas without a saved value are read as empty: {named(formulas)}; "
            "open the workbook in Excel or LibreOffice and save it"
        )
    if rows:
        yield f"hidden rows are read: {named(_ranges(rows, str))}"
    if columns:
        yield f"hidden columns are read: {named(_ranges(columns, lambda number: letters(number - 1)))}"


def _ranges(numbers: list[int], name: Callable[[int], str]) -> list[str]:
    """Return `8-12` and `15` for rising numbers."""
    runs = (list(run) for _, run in groupby(enumerate(numbers), lambda item: item[1] - item[0]))
    ends = ((run[0][1], run[-1][1]) for run in runs)
    return [name(first) if first == last else f"{name(first)}-{name(last)}" for first, last in ends]


def _part(archive: zipfile.ZipFile, sheet: str) -> str | None:
    """Return the name of the sheet's file in the archive."""
    sheets = (each for name, each in _elements(archive, "xl/workbook.xml") if name == "sheet")
    found = next((each for each in sheets if each.get("name") == sheet), None)
    relation = next((value for key, value in found.items() if key.endswith("id")), "") if found is not None else ""
    relations = (each for name, each in _elements(archive, "xl/_rels/workbook.xml.rels") if name == "Relationship")
    target = next((each.get("Target") for each in relations if each.get("Id") == relation), None)
    return None if target is None else normpath(join("/xl", target)).lstrip("/")


def _elements(archive: zipfile.ZipFile, part: str) -> Iterator[tuple[str, Element]]:
    """Yield the elements of an XML file as they end, with their names; at most one row is in memory."""
    around: list[Element] = []
    with archive.open(part) as stream:
        # Expat limits the expansion of entities.
        for event, element in ElementTree.iterparse(stream, ("start", "end")):  # noqa: S314
            if event == "start":
                around.append(element)
                continue
            around.pop()
            name = _name(element)
            yield name, element
            if name == "row" and around:
                around[-1].clear()


def _name(element: Element) -> str:
    """Return the name of an element without its namespace."""
    return element.tag.rpartition("}")[2]


def _overlapping(archive: zipfile.ZipFile, part: str) -> Iterator[bytes]:
    """Yield blocks that begin with the end of the previous one, so that no match is split."""
    before = b""
    with archive.open(part) as stream:
        while block := stream.read(_STEP_BYTES):
            yield before + block
            before = block[-_OVERLAP:]
