"""Tables: which row is the heading, what columns are called, and what workbooks hold."""

from __future__ import annotations

import csv
import datetime
import gzip
import io
from pathlib import Path
from typing import Any

import pytest

from runner.datasets.reading.opening import open_dataset
from runner.errors import DatasetError
from tests.datasets.reading.rows import bodies, opened
from tests.datasets.reading.workbooks import workbook


def test_columns_with_one_name_are_refused_and_one_without_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("prompt, answer ,prompt\na,b,c\n")
    with pytest.raises(DatasetError, match=r"columns 1 and 3 of t\.csv have the same heading, 'prompt'") as caught:
        opened(path)
    assert caught.value.findings[0]["code"] == "duplicate-column"
    path.write_text(",prompt, answer \n0,a, b\n")
    with open_dataset(path) as dataset:
        assert dataset.columns == ["column 1", "prompt", "answer"]
        assert dataset.notes == ["column 1 has no heading"]
        assert [row.value for row in dataset.rows()] == [{"column 1": "0", "prompt": "a", "answer": " b"}]


@pytest.mark.parametrize("kind", ["xlsx", "csv", "semicolons", "sep"])
def test_titles_above_the_headings_are_named_and_passed_over(kind: str, tmp_path: Path) -> None:
    rows = [["Tickets of May"], [], ["as of\n1 June"], ["Question", "id", "Answer"], ["q", "7", "a"], ["r", "8", "b"]]
    path = tmp_path / ("t.xlsx" if kind == "xlsx" else "t.csv")
    if kind == "xlsx":
        path.write_bytes(workbook({"A": rows}))
    else:
        text = io.StringIO(newline="")
        csv.writer(text, delimiter="," if kind == "csv" else ";").writerows(rows)
        path.write_text(("sep=;\n" if kind == "sep" else "") + text.getvalue(), newline="")
    with open_dataset(path) as dataset:
        assert dataset.columns == ["Question", "id", "Answer"]
        found = list(dataset.rows())
        assert [note for note in dataset.notes if "separator" not in note] == [
            "'Tickets of May' is above the headings and is left out",
            "'as of\\n1 June' is above the headings and is left out",
        ]
    assert [list((row.value or {}).values()) for row in found] == [["q", "7", "a"], ["r", "8", "b"]]
    assert [row.line for row in found] == ([0, 0] if kind == "xlsx" else [7, 8] if kind == "sep" else [6, 7])


def test_a_row_of_one_cell_is_a_heading_where_no_other_is_certain(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("body\nprompt\nanswer\n")
    with open_dataset(path) as dataset:
        assert dataset.columns == ["body"]


def test_workbooks(tmp_path: Path) -> None:
    cells: list[list[Any]] = [
        [None, None, None, None, None],
        ["prompt", "completion", "when", "good", None],
        ["How many?", 12, datetime.date(2024, 2, 29), True, None],
        [None, None, None, None, None],
        ["Wie viel?", 12.5, datetime.datetime(2024, 2, 29, 13, 5), False, None],
        ["a", None, None, None, "stray"],
    ]
    path = tmp_path / "t.jsonl"
    path.write_bytes(workbook({"Leer": [], "Tabelle1": cells, "Notizen": [["x"]]}))
    expected = [
        {"prompt": "How many?", "completion": "12", "when": "2024-02-29", "good": "TRUE"},
        {"prompt": "Wie viel?", "completion": "12.5", "when": "2024-02-29 13:05:00", "good": "FALSE"},
        "a cell to the right of the last heading, 'good'",
    ]
    for data in (path.read_bytes(), gzip.compress(path.read_bytes())):
        path.write_bytes(data)
        with open_dataset(path) as dataset:
            assert (dataset.layout, dataset.description) == ("excel", "an Excel workbook (sheet 'Tabelle1')")
            assert dataset.columns == ["prompt", "completion", "when", "good"]
            assert dataset.notes == ["only the sheet 'Tabelle1' is read, not 'Notizen'"]
            assert bodies(list(dataset.rows())) == expected


@pytest.mark.parametrize("cover", [[["Support tickets 2025"], ["by Jana"]], [["id", "owner"], [1, "Jana"]]])
def test_the_sheet_with_the_usual_headings_is_read_wherever_it_is(cover: list[list[Any]], tmp_path: Path) -> None:
    table: list[list[Any]] = [["Tickets", None, None], ["Category", "Question", "Answer"], ["a", "Why?", "So."]]
    other: list[list[Any]] = [["question", "answer"], ["Who?", "They."]]
    path = tmp_path / "t.xlsx"
    for sheets, chosen in (
        ({"Cover": cover, "Data": table}, "Data"),
        ({"Data": table, "Cover": cover}, "Data"),
        ({"Cover": cover, "Data": table, "More": other}, "Data"),
        ({"More": other, "Data": table}, "More"),
        ({"Cover": cover, "Second": cover}, "Cover"),
    ):
        path.write_bytes(workbook(sheets))
        with open_dataset(path) as dataset:
            assert dataset.description == f"an Excel workbook (sheet {chosen!r})"
            others = ", ".join(repr(name) for name in sheets if name != chosen)
            assert dataset.notes[0] == f"only the sheet {chosen!r} is read, not {others}"
            if chosen == "Data":
                assert bodies(list(dataset.rows())) == [{"Category": "a", "Question": "Why?", "Answer": "So."}]
