"""The door: what a file is, its first bytes say, wherever it comes from and whatever it is called."""

from __future__ import annotations

import gzip
import io
import json
import random
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
import zstandard
from pyarrow import feather, ipc, parquet

from runner.datasets.reading.lines import MAX_LINE_BYTES
from runner.datasets.reading.opening import open_dataset
from runner.datasets.reading.sources import RemoteObject
from runner.datasets.records.recognising import plain_examples
from runner.errors import DatasetError
from tests.datasets.reading.rows import bodies, opened
from tests.datasets.reading.workbooks import workbook

LINE = '{"prompt": "a", "completion": "b"}'
CHAT = '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}'
PRETTY = json.dumps(json.loads(CHAT), indent=2)
VIEWED = '{"row_idx": 0, "row": {"prompt": "a", "x": NaN}, "truncated_cells": []}'


def zipped(data: bytes, *names: str) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names or ("train.jsonl",):
            archive.writestr(name, data)
    return target.getvalue()


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "zip": zipped,
}


PAIR = json.loads(LINE)
TURNS = json.loads(CHAT)["messages"]
COLUMNS = "JSON that holds a table column by column"
LAYOUTS: dict[str, tuple[str, str, str, str, list[Any]]] = {
    "lines": ("t.jsonl", f"{LINE}\n{LINE}\n", "json-lines", "JSON Lines", [PAIR, PAIR]),
    "a line": ("t.json", LINE, "json-lines", "JSON Lines", [PAIR]),
    "a chat": ("t.json", CHAT, "json-lines", "JSON Lines", [json.loads(CHAT)]),
    "lines named csv": ("t.csv", f"\n{LINE}\n{LINE}", "json-lines", "JSON Lines", [PAIR, PAIR]),
    "array": ("t.jsonl", f"[{LINE}, {LINE}]", "json", "a JSON array", [PAIR, PAIR]),
    "array over lines": ("t.jsonl", f"[\n{LINE},\n{LINE}\n]\n", "json", "a JSON array", [PAIR, PAIR]),
    "two arrays": ("t.json", f"[\n{LINE}]\n[{LINE}]", "json", "a JSON array", [PAIR, PAIR]),
    "pretty": (
        "t.jsonl",
        f"{PRETTY}\n{PRETTY}\n",
        "json",
        "pretty-printed JSON: objects span lines (first: lines 1-12)",
        [json.loads(CHAT)] * 2,
    ),
    "pretty, one": (
        "t.json",
        f"\n{PRETTY}",
        "json",
        "pretty-printed JSON: objects span lines (first: lines 2-13)",
        [json.loads(CHAT)],
    ),
    "pretty, glued": (
        "t.jsonl",
        PRETTY + PRETTY,
        "json",
        "pretty-printed JSON: objects span lines (first: lines 1-12)",
        [json.loads(CHAT)] * 2,
    ),
    "list in an object": (
        "t.json",
        f'{{"version": 1, "data": [{LINE}, {LINE}], "end": {{}}}}',
        "json",
        "a JSON object with a list under 'data'",
        [PAIR, PAIR],
    ),
    "list under another key": (
        "t.json",
        json.dumps({"pairs": [PAIR]}, indent=1),
        "json",
        "a JSON object with a list under 'pairs'",
        [PAIR],
    ),
    "list in a cut object": (
        "t.json",
        f'{{"data": [{LINE}], "end": ',
        "json",
        "a JSON object with a list under 'data'",
        [PAIR, "after its list, the object is broken: the file ends inside the value (line 1)"],
    ),
    "viewer": (
        "t.json",
        f'{{"features": [{{"name": "prompt"}}], "rows": [{VIEWED}]}}',
        "json",
        "rows exported from the Hugging Face dataset viewer",
        [{"prompt": "a", "x": pytest.approx(float("nan"), nan_ok=True)}],
    ),
    "viewer, lines": (
        "t.jsonl",
        VIEWED.replace("[]", '["x"]') + "\n" + VIEWED.replace("NaN", "1"),
        "json",
        "rows exported from the Hugging Face dataset viewer",
        ["the dataset viewer has cut cells short: x", {"prompt": "a", "x": 1}],
    ),
    "columns": (
        "t.json",
        '{"prompt": ["a", "c"], "completion": ["b", null]}',
        "json",
        COLUMNS,
        [PAIR, {"prompt": "c", "completion": None}],
    ),
    "columns of turns": (
        "t.json",
        json.dumps({"id": [1], "messages": [TURNS]}),
        "json",
        COLUMNS,
        [{"id": 1, "messages": TURNS}],
    ),
    "columns of pandas": (
        "t.json",
        json.dumps({"prompt": {"0": "a", "7": "a"}, "completion": {"0": "b", "7": "b"}}, indent=1),
        "json",
        COLUMNS,
        [PAIR, PAIR],
    ),
    "split by pandas": (
        "t.json",
        json.dumps({"columns": ["prompt", "completion"], "index": [0], "data": [["a", "b"]]}),
        "json",
        COLUMNS,
        [PAIR],
    ),
    "columns of two lengths": (
        "t.json",
        '{"prompt": ["a"], "completion": []}',
        "json-lines",
        "JSON Lines",
        [{"prompt": ["a"], "completion": []}],
    ),
    "lines of lists": (
        "t.jsonl",
        '{"prompt": ["a"], "completion": ["b"]}\n' * 2,
        "json-lines",
        "JSON Lines",
        [{"prompt": ["a"], "completion": ["b"]}] * 2,
    ),
    "csv named jsonl": ("t.jsonl", "prompt,completion\na,b\n", "table", "CSV separated by ','", [PAIR]),
    "semicolons": ("t.csv", 'prompt;completion\n"a";b\n', "table", "CSV separated by ';'", [PAIR]),
    "tabs": ("t.txt", "prompt\tcompletion\na\tb\n", "table", "TSV separated by tab", [PAIR]),
    "bars": ("t.csv", "prompt|completion\r\na|b\r\n", "table", "CSV separated by '|'", [PAIR]),
    "commas in text": (
        "t.csv",
        "Frage;Antwort\nJa, nein;Gut, ja\nNun, ja;Gut\n",
        "table",
        "CSV separated by ';'",
        [{"Frage": "Ja, nein", "Antwort": "Gut, ja"}, {"Frage": "Nun, ja", "Antwort": "Gut"}],
    ),
    "sep": ("t.csv", '"sep=;"\nprompt;completion\na;b\n', "table", "CSV separated by ';'", [PAIR]),
    "one column": (
        "t.csv",
        'text\na b\n\n"c, d"\n',
        "table",
        "CSV separated by ','",
        [{"text": "a b"}, {"text": "c, d"}],
    ),
    "no text": ("t.csv", " \r\n", "json-lines", "JSON Lines", []),
    "nothing": ("t.json", "", "json-lines", "JSON Lines", []),
    "blank lines": (
        "t.csv",
        "\n  \nprompt,completion\n\na,b\n  \n",
        "table",
        "CSV separated by ','",
        [PAIR],
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("compression", COMPRESS)
def test_layouts(name: str, compression: str, tmp_path: Path) -> None:
    file, text, layout, description, expected = LAYOUTS[name]
    path = tmp_path / file
    path.write_bytes(COMPRESS[compression](text.encode()))
    if compression == "zip":  # the name inside counts
        path.write_bytes(zipped(text.encode(), file))
    found, words, rows = opened(path)
    assert (found, words, bodies(rows)) == (layout, description, expected)
    with open_dataset(path) as dataset:
        assert dataset.compression == compression
        assert dataset.is_plain == (layout == "json-lines" and not compression)


PLACES: dict[str, tuple[str, list[tuple[int, int, str]]]] = {
    "ragged": (
        "prompt,completion\na,b,c\n\nd\ne,f\n",
        [(1, 2, "3 cells, the heading has 2"), (2, 4, "1 cell, the heading has 2"), (3, 5, "")],
    ),
    "cells over lines": ('prompt,completion\n"a\n\nb",c\nd,e\n', [(1, 2, ""), (2, 5, "")]),
    "unclosed": (
        'prompt,completion\na,b\n"c\nd","e\nf\n',
        [(1, 2, ""), (2, 3, "the quote that opens in line 4 is not closed before the end of the file")],
    ),
    "text behind a quote": (
        'prompt,completion\n"a"b,c\nd,e\n',
        [(1, 2, "text follows the quote that closes the cell which opens in line 2"), (2, 3, "")],
    ),
    "broken value": (
        '[\n  {"a": 1},\n  {"a": \n    oops, "b": {\n    "c": 1}},\n  {"a": 3}\n]',
        [(1, 2, ""), (2, 3, "Expecting value (line 4)"), (3, 6, "")],
    ),
    "missing brace": ('{\n "a": 1\n{\n "b": 2\n}\n', [(1, 1, "Expecting ',' delimiter (line 3)"), (2, 3, "")]),
    "broken at one line": (
        f'{{\n"a": 1}} {{"b": oops}} {LINE}\n',
        [(1, 1, ""), (2, 2, "Expecting value (line 2); nothing after it can be read")],
    ),
    "cut value": (
        '{\n"a": 1}\n{\n "b": "no',
        [(1, 1, ""), (2, 3, "the file ends inside the value (line 4); nothing after it can be read")],
    ),
    "cut array": (f"[\n{LINE},\n", [(1, 2, ""), (2, 3, "the file ends inside the list: it is cut short")]),
    "cut object": (
        f'{{\n"data": [\n{LINE}\n],\n',
        [(1, 3, ""), (2, 4, "after its list, the object is broken: the file ends inside the value (line 5)")],
    ),
    "text behind an array": (
        f"[\n{LINE}\n]\nmore",
        [(1, 2, ""), (2, 4, "text follows the end of the array: it is not read")],
    ),
    "line end in a string": (
        '[\n{"a": "b\nc"},\n{"a": 1}]',
        [(1, 2, "Invalid control character at (line 2)"), (2, 4, "")],
    ),
}


@pytest.mark.parametrize("name", PLACES)
def test_places_and_problems(name: str, tmp_path: Path) -> None:
    text, expected = PLACES[name]
    path = tmp_path / "t.data"
    path.write_text(text)
    assert [(row.number, row.line, row.problem) for row in opened(path)[2]] == expected


def test_values_are_handed_out_as_they_are_written(tmp_path: Path) -> None:
    """The exact parser finds what is wrong with them, as in JSON Lines."""
    path = tmp_path / "t.json"
    path.write_text('[\n{"a": NaN, "a": "\\ud800",\r\n "b": ' + "9" * 5000 + "}, 7, null]")
    assert [row.data for row in opened(path)[2]] == [
        b'{"a": NaN, "a": "\\ud800",   "b": ' + b"9" * 5000 + b"}",
        b"7",
        b"null",
    ]


def test_a_long_value_is_named_and_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_bytes(b'[\n{"a": "' + b"x" * MAX_LINE_BYTES + b'"},\n{"a": 1}\n]')
    _, _, rows = opened(path)
    assert bodies(rows) == [f"the value is longer than {MAX_LINE_BYTES >> 20} MiB", {"a": 1}]
    path.write_bytes(b'a,b\n1,"' + b"x" * MAX_LINE_BYTES + b'"\n')
    problem = "the row is longer than 32 Mi characters; nothing after it can be read"
    assert bodies(opened(path, layout="table")[2]) == [problem]
    path.write_bytes(b'a,b\n1,"2\n' + b"3,4\n" * (MAX_LINE_BYTES // 8))
    (row,) = opened(path, layout="table")[2]
    assert (row.line, row.problem) == (
        2,
        "the row is longer than 32 Mi characters (a quote may not be closed); nothing after it can be read",
    )


def as_stream(table: pyarrow.Table, path: Path) -> None:
    """Write what `Dataset.save_to_disk` of Hugging Face writes."""
    with ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table)


@pytest.mark.parametrize("compression", ["", "gzip", "zip"])
def test_parquet_and_arrow(compression: str, tmp_path: Path) -> None:
    table = pyarrow.Table.from_pylist([{"a": "x", "b": {"c": None, "d": [1]}}, {"a": None, "b": None}])
    writers: dict[str, Callable[[Any, Path], None]] = {
        "Parquet": parquet.write_table,
        "Arrow": lambda table, path: feather.write_feather(table, path, compression="uncompressed"),
        "Arrow stream": as_stream,
    }
    for what, write in writers.items():
        path = tmp_path / "t.bin"
        write(table, path)
        path.write_bytes(COMPRESS[compression](path.read_bytes()))
        layout, description, rows = opened(path)
        assert (layout, description, bodies(rows)) == ("parquet", what.split()[0], [{"a": "x", "b": {"d": [1]}}, {}])


@pytest.mark.parametrize("name", ["lines", "array", "semicolons", "workbook"])
@pytest.mark.parametrize("compression", COMPRESS)
def test_pipes_and_objects_give_what_files_give(name: str, compression: str, tmp_path: Path) -> None:
    text = workbook({"A": [["prompt", "completion"], ["a", "b"]]}) if name == "workbook" else LAYOUTS[name][1].encode()
    data = COMPRESS[compression](text)
    path = tmp_path / "t.data"
    path.write_bytes(data)
    expected = opened(path)
    remote = RemoteObject("gs://b/t.data", len(data), lambda: io.BufferedReader(Trickle(data)))
    with open_dataset(remote) as dataset:
        assert (dataset.layout, dataset.description, list(dataset.rows())) == expected
    script = (
        "from pathlib import Path; from runner.datasets.reading.opening import open_dataset\n"
        "with open_dataset(Path('-')) as o: print((o.layout, o.description, list(map(tuple, o.rows()))))"
    )
    made = subprocess.run([sys.executable, "-c", script], input=data, capture_output=True, check=False)
    assert made.stdout.decode().strip() == str((*expected[:2], list(map(tuple, expected[2])))), made.stderr.decode()


class Trickle(io.RawIOBase):
    """Gives a few bytes at a time, and cannot seek."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._data.read(min(7, len(buffer)))
        buffer[: len(data)] = data
        return len(data)


def test_a_given_layout_is_taken_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text("Ding;Sache\n{;}\n")
    assert opened(path)[0] == "json-lines"
    assert bodies(opened(path, layout="table")[2]) == [{"Ding": "{", "Sache": "}"}]
    assert "Expecting value (line 1)" in opened(path, layout="json")[2][0].problem
    with pytest.raises(DatasetError, match="the file is text, not excel"):
        opened(path, layout="excel")
    path.write_bytes(b"PAR1")
    with pytest.raises(DatasetError, match="the file is Parquet, not json-lines"):
        opened(path, layout="json-lines")


def test_a_plain_copy_is_utf8(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl.gz"
    path.write_bytes(gzip.compress(f"{LINE}\r\n".encode("utf-16")))
    with plain_examples(path) as copy:
        assert (copy.name, copy.read_text()) == ("t.jsonl", f"{LINE}\n")
    path = tmp_path / "plain.jsonl"
    path.write_text(LINE)
    with plain_examples(path) as copy:
        assert copy == path


def test_large_documents_in_parts(tmp_path: Path) -> None:
    """Values that lie across the parts that are read, and a list longer than the beginning that is looked at."""
    choose = random.Random(1)
    rows = [{"prompt": "ü" * choose.randrange(3000), "completion": str(number)} for number in range(2000)]
    path = tmp_path / "t.json"
    forms = {
        "array": json.dumps(rows, ensure_ascii=False),
        "list": json.dumps({"note": "", "rows": rows}, ensure_ascii=False),
        "pretty": "\n".join(json.dumps(row, indent=4) for row in rows),
        "columns": json.dumps({key: [row[key] for row in rows] for key in rows[0]}, ensure_ascii=False),
        "pandas": json.dumps({key: {place: row[key] for place, row in enumerate(rows)} for key in rows[0]}),
    }
    for name, text in forms.items():
        path.write_text(text)
        layout, _, found = opened(path)
        assert (layout, bodies(found)) == ("json", rows), name
