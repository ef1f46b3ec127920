"""Whatever is written comes back, and whatever is not a dataset is refused or named, row by row."""

from __future__ import annotations

import csv
import gzip
import io
import json
import string
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from runner.datasets.reading.opening import Row, open_dataset
from runner.errors import ConfigurationError, DatasetError

WIDE = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\ufeff"), max_size=12)
PLAIN = st.text(st.sampled_from(string.ascii_letters + " ,;|\t\"'\n{}[]ßé中"), max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | TEXTS,
    lambda children: st.lists(children, max_size=3) | st.dictionaries(TEXTS, children, max_size=3),
    max_leaves=6,
)


def read(data: bytes, name: str, **options: Any) -> tuple[Any, list[Row]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(data)
        with open_dataset(path, **options) as dataset:
            return dataset, list(dataset.rows())


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.tuples(PLAIN, PLAIN, PLAIN), min_size=1, max_size=6),
    st.sampled_from(",;\t|"),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.sampled_from(WIDE),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.booleans(),
)
def test_tables_come_back_cell_by_cell(
    rows: list[tuple[str, ...]], delimiter: str, quoting: Any, encoding: str, end: str, named: bool
) -> None:
    text = io.StringIO(newline="")
    text.write(f"sep={delimiter}{end}" if named else "")
    heading = ("id", "prompt", "completion")
    if end == "\r":
        quoting = csv.QUOTE_ALL  # Python 3.11 writes "\n" without quotes where another line end is given
    csv.writer(text, delimiter=delimiter, quoting=quoting, lineterminator=end).writerows([heading, *rows])
    dataset, found = read(text.getvalue().encode(encoding), "t.csv")
    assert (dataset.layout, dataset.columns) == ("table", list(heading))
    assert [row.value for row in found] == [dict(zip(heading, row, strict=True)) for row in rows]
    lines = list(io.StringIO(text.getvalue(), newline=""))
    for row in found:
        first = lines[row.line - 1].removeprefix('"')
        assert row.value is not None
        assert first.startswith(
            row.value["id"].replace('"', '""').splitlines(keepends=True)[0] if row.value["id"] else ""
        )


@settings(deadline=None, max_examples=300)
@given(
    st.lists(JSON, min_size=1, max_size=5), st.sampled_from(WIDE), st.booleans(), st.sampled_from([None, 0, 2, "\t"])
)
def test_arrays_come_back(values: list[Any], encoding: str, ascii_only: bool, indent: Any) -> None:
    text = json.dumps(values, ensure_ascii=ascii_only, indent=indent)
    assume(not encoding.endswith("e") or (len(text) > 4 and text[:4].isascii()))
    _, rows = read(text.encode(encoding), "t.json", layout="json")
    assert [json.loads(row.data) for row in rows] == values
    assert not any(b"\n" in row.data or row.problem for row in rows)


OBJECTS = st.lists(st.dictionaries(TEXTS, JSON, min_size=1, max_size=4), min_size=1, max_size=5)


@settings(deadline=None, max_examples=300)
@given(
    OBJECTS,
    st.sampled_from(WIDE),
    st.sampled_from(["lines", "pretty", "glued pretty", "array", "list", "comma lines"]),
    st.sampled_from(["\n", "\r\n"]),
)
@example([{"a": [{"b": 1}], "": 0}], "utf-8", "pretty", "\n")
@example([{"data": [{"b": 1}]}, {"data": []}], "utf-8", "pretty", "\n")
def test_objects_come_back_in_any_layout(objects: list[Any], encoding: str, layout: str, end: str) -> None:
    # A single object that holds one list of objects is a document of these.
    alone = len(objects) == 1 and layout in {"lines", "pretty", "glued pretty", "comma lines"}
    nested = any(
        isinstance(item, list) and any(isinstance(child, dict) for child in item) for item in objects[0].values()
    )
    assume(not (alone and nested))
    texts = [json.dumps(body, ensure_ascii=False, indent=2 if "pretty" in layout else None) for body in objects]
    text = {
        "lines": "\n".join(texts),
        "pretty": "\n".join(texts) + "\n",
        "glued pretty": "".join(texts),
        "array": json.dumps(objects, indent=1),
        "list": json.dumps({"version": 1, "examples": objects}),
        "comma lines": ",\n".join(texts),
    }[layout].replace("\n", end)
    start = text[:4]
    assume(start.isascii() or encoding not in {"utf-16-le", "utf-16-be"})
    dataset, rows = read(text.encode(encoding), "t.jsonl")
    if layout == "comma lines" and dataset.layout == "json-lines":
        return  # each line is the exact parser's
    assert not [row for row in rows if row.problem], (text, dataset)
    assert [json.loads(row.data.removeprefix(b"\xef\xbb\xbf")) for row in rows] == objects


_PIECES = r"""{ } [ ] " \\ , ; : \n \r \t \0 \x20 \xff \xfe \xef\xbb\xbf \xfc \x1f\x8b\x08 PK\x03\x04 PAR1 prompt
completion {"a":1} {"row_idx":0,"row":{}} "rows":[ sep= NaN 1e9 \xe9\x00-N f\xfcr ustar"""
SOUP = st.lists(
    st.sampled_from([piece.encode().decode("unicode_escape").encode("latin-1") for piece in _PIECES.split()]),
    max_size=30,
).map(b"".join)


@settings(deadline=None, max_examples=1500)
@given(
    SOUP | st.binary(max_size=60),
    st.sampled_from(["t.jsonl", "t.json", "t.csv", "t.tsv", "t", "t.gz", "t.xlsx"]),
    st.sampled_from([None, "json-lines", "json", "table", "excel", "parquet"]),
    st.sampled_from([None, "cp1252", "utf-8", "utf-16", "shift_jis", "utf-7"]),
)
def test_nothing_crashes(data: bytes, name: str, layout: Any, encoding: Any) -> None:
    try:
        _, rows = read(data, name, layout=layout, encoding=encoding)
    except (DatasetError, ConfigurationError):
        return
    assert [row.number for row in rows] == list(range(1, len(rows) + 1))
    assert all(first.line <= second.line for first, second in pairwise(rows))
    assert all((row.value is not None) + bool(row.problem) + bool(row.data) == 1 for row in rows)


BODIES = [{"prompt": f"für {number}", "completion": "x" * 50, "list": [number, {}]} for number in range(9)]
WHOLE: dict[str, bytes] = {
    "array": json.dumps(BODIES, ensure_ascii=False, indent=1).encode(),
    "pretty": "\n".join(json.dumps(body, indent=1) for body in BODIES).encode(),
    "list": json.dumps({"data": BODIES}).encode("utf-16"),
    "table": "".join(f'"f""ür\n{number}";b\r\n' for number in range(9)).encode(),
}


@settings(deadline=None, max_examples=400)
@given(st.sampled_from(sorted(WHOLE)), st.data(), st.booleans())
def test_what_is_cut_short_gives_its_first_rows_and_says_so(name: str, data: st.DataObject, packed: bool) -> None:
    whole = WHOLE[name]
    options: dict[str, Any] = {"layout": "table" if name == "table" else "json"}
    _, rows = read(whole, "t", **options)
    content = gzip.compress(whole) if packed else whole
    size = data.draw(st.integers(0, len(content) - 1))
    try:
        _, some = read(content[:size], "t", **options)
    except (DatasetError, ConfigurationError):
        return
    good = [row for row in some if not row.problem]
    if name != "table":
        assert good == rows[: len(good)]
        assert len(good) == len(rows) or any(row.problem for row in some) or name == "pretty" or not good
    else:
        assert all(row.value == expected.value for row, expected in zip(good[:-1], rows, strict=False))


def test_each_broken_row_is_one_row(tmp_path: Path) -> None:
    """Rows stand at their places whatever is wrong with others: each of nine is broken in turn."""
    for broken in range(9):
        texts = [json.dumps(body, indent=1) for body in BODIES]
        texts[broken] = texts[broken].replace('"list"', '"list')
        path = tmp_path / "t.json"
        path.write_text("[\n" + ",\n".join(texts) + "\n]")
        with open_dataset(path) as dataset:
            rows = list(dataset.rows())
        assert [row.number for row in rows if row.problem] == [broken + 1]
        assert [json.loads(row.data) for row in rows if not row.problem] == BODIES[:broken] + BODIES[broken + 1 :]
