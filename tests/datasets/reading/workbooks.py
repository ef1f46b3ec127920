"""Writes the smallest Excel workbooks that there are."""

from __future__ import annotations

import datetime
import io
import zipfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape

_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_RELATIONS = "http://schemas.openxmlformats.org/package/2006/relationships"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"

_STATES = ("visible", "hidden")


@dataclass(frozen=True, slots=True)
class Error:
    """A cell whose formula has failed."""

    text: str


@dataclass(frozen=True, slots=True)
class Formula:
    """A formula, and the value that was saved with it."""

    text: str
    value: str | None = None


def workbook(
    sheets: dict[str, list[list[Any]]],
    *,
    merged: Sequence[str] = (),
    hidden_rows: Collection[int] = (),
    hidden_columns: Sequence[tuple[int, int]] = (),
    hidden_sheets: Collection[str] = (),
) -> bytes:
    """Return an .xlsx file with sheets of cells, as Excel and openpyxl write it; None leaves a cell out."""
    names = "".join(
        f'<sheet name="{escape(name)}" sheetId="{n}" state="{_STATES[name in hidden_sheets]}" r:id="r{n}"/>'
        for n, name in enumerate(sheets, 1)
    )
    columns = "".join(f'<col min="{first}" max="{last}" hidden="1"/>' for first, last in hidden_columns)
    before = f"<cols>{columns}</cols>" if columns else ""
    ranges = "".join(f'<mergeCell ref="{place}"/>' for place in merged)
    after = f'<mergeCells count="{len(merged)}">{ranges}</mergeCells>' if merged else ""
    relations = "".join(
        f'<Relationship Id="r{n}" Type="{_OFFICE}/worksheet" Target="worksheets/sheet{n}.xml"/>'
        for n in range(1, len(sheets) + 1)
    )
    styles = '<cellXfs count="3"><xf numFmtId="0"/><xf numFmtId="22" applyNumberFormat="1"/>'
    styles += '<xf numFmtId="46" applyNumberFormat="1"/></cellXfs>'
    parts = {
        "[Content_Types].xml": '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>',
        "_rels/.rels": f'<Relationships xmlns="{_RELATIONS}">'
        f'<Relationship Id="w" Type="{_OFFICE}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{_MAIN}" xmlns:r="{_OFFICE}"><sheets>{names}</sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{_RELATIONS}">{relations}'
        f'<Relationship Id="s" Type="{_OFFICE}/styles" Target="styles.xml"/></Relationships>',
        "xl/styles.xml": f'<styleSheet xmlns="{_MAIN}">{styles}</styleSheet>',
    }
    for number, rows in enumerate(sheets.values(), 1):
        lines = (
            f'<row r="{r}" hidden="{int(r in hidden_rows)}">{"".join(_cell(c, r, v) for c, v in enumerate(row))}</row>'
            for r, row in enumerate(rows, 1)
        )
        data = f'<worksheet xmlns="{_MAIN}">{before}<sheetData>{"".join(lines)}</sheetData>{after}</worksheet>'
        parts[f"xl/worksheets/sheet{number}.xml"] = data
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in parts.items():
            archive.writestr(name, text)
    return target.getvalue()


def _cell(column: int, row: int, value: Any) -> str:
    place = f'r="{chr(ord("A") + column)}{row}"'
    if value is None:
        return ""
    if isinstance(value, Error):
        return f'<c {place} t="e"><f>{value.text}</f><v>{value.text}</v></c>'
    if isinstance(value, Formula):
        kind = "" if value.value is None else ' t="str"'
        return f"<c {place}{kind}><f>{escape(value.text)}</f><v>{escape(value.value or '')}</v></c>"
    if isinstance(value, datetime.timedelta):
        return f'<c {place} s="2"><v>{value / datetime.timedelta(days=1)}</v></c>'
    if isinstance(value, bool):
        return f'<c {place} t="b"><v>{int(value)}</v></c>'
    if isinstance(value, (int, float)):
        return f"<c {place}><v>{value}</v></c>"
    if isinstance(value, datetime.date):
        whole = value if isinstance(value, datetime.datetime) else datetime.datetime.combine(value, datetime.time())
        return f'<c {place} s="1"><v>{(whole - datetime.datetime(1899, 12, 30)) / datetime.timedelta(days=1)}</v></c>'
    return f'<c {place} t="inlineStr"><is><t xml:space="preserve">{escape(value)}</t></is></c>'
