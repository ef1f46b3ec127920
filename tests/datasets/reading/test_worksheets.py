"""Nothing of a workbook is lost in silence: what is read as something else than it shows is named with its place."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest

from runner.datasets.reading.opening import open_dataset
from runner.datasets.reading.worksheets import letters
from runner.datasets.rewriting.converting import convert_file
from tests.datasets.reading.workbooks import Error, Formula, workbook

HEAD: list[Any] = ["question", "answer", "system"]


def read(path: Path, rows: list[list[Any]], **features: Any) -> tuple[dict[int, Any], list[str]]:
    """Return what is read of rows below a title and the heading, by the row of the sheet, and the notes on them."""
    path.write_bytes(workbook({"Data": [["Tickets"], HEAD, *rows]}, **features))
    with open_dataset(path) as dataset:
        found = {row.number: row.value for row in dataset.rows()}
        return found, [note for note in dataset.notes if "Tickets" not in note]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "t.xlsx"


def test_merged_cells_count_for_each_of_their_rows(path: Path) -> None:
    rows: list[list[Any]] = [["q1", "a1"], [None, "a2"], [None, "a3"], [None, "a4"], ["q5", None, None], ["q6", "a6"]]

    found, notes = read(path, rows, merged=["A1:C1", "A3:A5", "A7:B7", "C3:C4"])

    assert [found[number].get("question") for number in (3, 4, 5)] == ["q1", "q1", "q1"]
    assert found[6] == {"answer": "a4"}
    assert found[7] == {"question": "q5"}
    places = "A3:A5, C3:C4, A7:B7"
    assert notes == [f"the value of merged cells counts for each of their rows, in the first column: {places}"]


def test_cells_with_errors_are_named(path: Path) -> None:
    rows = [["q1", Error("#N/A"), "s"], ["q2", "a2", Error("#REF!")], [Error("#DIV/0!"), "a3"]]

    found, notes = read(path, rows)

    assert found == {3: {"question": "q1", "system": "s"}, 4: {"question": "q2", "answer": "a2"}, 5: {"answer": "a3"}}
    assert notes == ["cells with errors are read as empty: B3 (#N/A), C4 (#REF!), A5 (#DIV/0!)"]


def test_errors_that_are_texts_are_named_too(path: Path) -> None:
    """As LibreOffice writes them into its own workbooks."""
    found, notes = read(path, [["q1", "a1"], ["q2", "#N/A"]])

    assert found == {3: {"question": "q1", "answer": "a1"}, 4: {"question": "q2"}}
    assert notes == ["cells with errors are read as empty: B4 (#N/A)"]


def test_formulas_that_nobody_calculated_are_named(path: Path) -> None:
    formulas = [Formula('A3&"x"'), Formula('A4&"x"', "q2x"), Formula('""', "")]

    found, notes = read(path, [[f"q{number}", formula] for number, formula in enumerate(formulas, 1)])

    assert found == {3: {"question": "q1"}, 4: {"question": "q2", "answer": "q2x"}, 5: {"question": "q3"}}
    assert notes == [
        "formulas without a saved value are read as empty: B3; open the workbook in Excel or LibreOffice and save it"
    ]


def test_many_places_are_counted(path: Path) -> None:
    _, notes = read(path, [["q", Error("#N/A")] for _ in range(5000)])

    assert notes[0].endswith("B11 (#N/A), B12 (#N/A) and 4,990 more")


def test_what_is_hidden_is_read_and_named(path: Path) -> None:
    rows = [[f"q{number}", f"a{number}", "s"] for number in range(3, 9)]

    found, notes = read(
        path, rows, hidden_rows={4, 5, 6, 8}, hidden_columns=[(3, 3), (5, 16384)], hidden_sheets={"Data"}
    )

    assert list(found) == [3, 4, 5, 6, 7, 8]
    assert all(value["system"] == "s" for value in found.values())
    assert notes == ["the sheet 'Data' is hidden", "hidden rows are read: 4-6, 8", "hidden columns are read: C"]


def test_dates_and_durations_are_as_the_sheet_shows_them(path: Path) -> None:
    rows = [
        ["day", datetime.date(2026, 3, 1)],
        ["moment", datetime.datetime(2026, 3, 1, 13, 5)],
        ["duration", datetime.timedelta(hours=30, minutes=5, seconds=7)],
    ]

    found, notes = read(path, rows)

    assert [value["answer"] for value in found.values()] == ["2026-03-01", "2026-03-01 13:05:00", "30:05:07"]
    assert notes == []


def test_a_conversion_accounts_for_every_row_by_its_number_in_the_sheet(path: Path, tmp_path: Path) -> None:
    rows: list[list[Any]] = [["q3", "a3"], [None, None], ["q5", Error("#N/A")], ["q6", "a6"], [None, "a7"]]
    path.write_bytes(workbook({"Data": [["Tickets"], HEAD, *rows]}, merged=["A6:A7"]))

    outcome = convert_file(path, tmp_path / "made.jsonl")

    assert (outcome.read, outcome.rows, outcome.dropped) == (4, 3, 1)
    assert [str(change.place) for change in outcome.problems] == ["row 5"]
    assert "B5 (#N/A)" in "\n".join(outcome.notes)


@pytest.mark.parametrize(
    ("column", "name"), [(0, "A"), (25, "Z"), (26, "AA"), (701, "ZZ"), (702, "AAA"), (16383, "XFD")]
)
def test_columns_have_their_names(column: int, name: str) -> None:
    assert letters(column) == name
