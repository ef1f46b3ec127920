"""Whatever a row holds is in the output or in the account of it, for every shape, layout and format."""

from __future__ import annotations

import copy
import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.datasets.checks import check_files
from runner.datasets.rewriting.converting import convert_file
from runner.datasets.rewriting.fixing import fix_file
from runner.datasets.rewriting.outcome import Outcome
from runner.errors import DatasetError
from tests.datasets.records.shapes import SHAPES

SENTINEL = "Zq7x"
FORMS = ["chat", "prompt_completion", "generate_content"]


def with_sentinels(value: Any) -> Iterator[Any]:
    """Yield copies of a record, each with the sentinel in another place: as a value, behind a text, under a new key."""
    for path in _places(value):
        for change in (_replaced, _wrapped, _appended, _added):
            mutated = copy.deepcopy(value)
            if change(mutated, path):
                yield mutated


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield (*path, key)
        yield from _places(child, (*path, key))


def _holder(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path[:-1]:
        value = value[key]
    return value


def _replaced(value: Any, path: tuple[Any, ...]) -> bool:
    _holder(value, path)[path[-1]] = SENTINEL
    return True


def _wrapped(value: Any, path: tuple[Any, ...]) -> bool:
    _holder(value, path)[path[-1]] = {"x": SENTINEL}
    return True


def _appended(value: Any, path: tuple[Any, ...]) -> bool:
    holder = _holder(value, path)
    if not isinstance(holder[path[-1]], str):
        return False
    holder[path[-1]] += " " + SENTINEL
    return True


def _added(value: Any, path: tuple[Any, ...]) -> bool:
    found = _holder(value, path)[path[-1]]
    if isinstance(found, dict):
        found["extra"] = SENTINEL
    elif isinstance(found, list):
        found.append(SENTINEL)
    return isinstance(found, (dict, list))


def json_lines(records: list[Any]) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def pretty(records: list[Any]) -> bytes:
    return "\n".join(json.dumps(record, indent=2) for record in records).encode()


def array(records: list[Any]) -> bytes:
    return json.dumps(records).encode()


def columns(records: list[Any]) -> bytes:
    """Write all records as one table of JSON, column by column."""
    return json.dumps({key: [record.get(key) for record in records] for key in records[0]}).encode()


def python_notation(records: list[Any]) -> bytes:
    return "".join(f"{record}\n" for record in records).encode()


def utf_16(records: list[Any]) -> bytes:
    return json_lines(records).decode().encode("utf-16")


LAYOUTS: dict[str, Callable[[list[Any]], bytes]] = {
    "json-lines": json_lines,
    "pretty": pretty,
    "array": array,
    "utf-16": utf_16,
    "columns": columns,
    "Python's notation": python_notation,
}
NO_COLUMNS = {"messages as a text", "misspelt", "lists for each key of a turn"}
"""Shapes of which a table is not known by the names of its columns."""


def assert_adds_up(outcome: Outcome) -> None:
    assert outcome.read == outcome.rows + outcome.dropped
    assert outcome.rows == outcome.unchanged + outcome.counts["changed"] + outcome.counts["split"]
    assert len([change for change in outcome.changes if change.action == "dropped"]) == min(1000, outcome.dropped)


def account_of(write: Callable[[Path, Path], Outcome], source: Path, output: Path) -> str:
    """Return all that a command says and writes; the row that it leaves out is named by its place."""
    try:
        outcome = write(source, output)
    except DatasetError as error:
        assert not output.exists()
        return f"left out {error.message} {error.findings}"
    assert_adds_up(outcome)
    report = check_files(output)
    assert report.errors == [], output.read_text()
    assert report.training.examples == outcome.rows
    assert all(lost.count and lost.first.row for lost in outcome.lost.values())
    if outcome.dropped:
        return "left out"
    return output.read_text() + json.dumps(outcome.to_json(), ensure_ascii=False)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_sentinel_in_any_place_reaches_the_output_or_the_account(shape: str, form: Any, tmp_path: Path) -> None:
    source = tmp_path / "t.jsonl"
    kept = 0
    for number, record in enumerate(with_sentinels(SHAPES[shape])):
        source.write_bytes(json_lines([record]))
        said = account_of(lambda a, b: convert_file(a, b, form), source, tmp_path / f"{number}.jsonl")
        assert SENTINEL in said or said.startswith("left out"), record
        kept += not said.startswith("left out")
    assert kept or form == "prompt_completion" or shape in {"tool calls", "messages as a text"}


@pytest.mark.parametrize("shape", SHAPES)
def test_fix_names_what_it_takes_away(shape: str, tmp_path: Path) -> None:
    source = tmp_path / "t.jsonl"
    for number, record in enumerate(with_sentinels(SHAPES[shape])):
        source.write_bytes(json_lines([record]))
        said = account_of(fix_file, source, tmp_path / f"{number}.jsonl")
        assert SENTINEL in said or said.startswith("left out"), record


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_of_every_shape_says_the_same(layout: str, tmp_path: Path) -> None:
    for shape, record in SHAPES.items():
        if layout == "columns" and shape in NO_COLUMNS:
            continue
        first, second = tmp_path / f"{shape}.jsonl", tmp_path / f"{shape} {layout}.data"
        first.write_bytes(json_lines([record, record]))
        second.write_bytes(LAYOUTS[layout]([record, record]))
        written = []
        for source in (first, second):
            output = tmp_path / f"{source.name} out {layout}.jsonl"
            try:
                outcome = convert_file(source, output, "chat")
                assert outcome.read == 2
                written.append((output.read_bytes(), list(outcome.lost)))
            except DatasetError as error:
                written.append((error.findings[0]["message"].encode(), []))
        assert written[0] == written[1], shape


_CELL = st.text(st.characters(codec="utf-8", exclude_characters="\0\r", exclude_categories=("Cs", "Cc")), max_size=12)


@given(
    headings=st.lists(st.sampled_from(["prompt", "answer", "system", "id", "note", "Größe"]), min_size=2, unique=True),
    rows=st.lists(st.lists(_CELL, min_size=0, max_size=7), min_size=1, max_size=6),
    delimiter=st.sampled_from([",", ";", "\t"]),
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_cell_is_written_or_accounted_for(
    headings: list[str], rows: list[list[str]], delimiter: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("cells")
    headings = ["prompt", "answer", *[name for name in headings if name not in {"prompt", "answer"}]]
    marked = [[f"{cell}~{row}.{place}" for place, cell in enumerate(cells)] for row, cells in enumerate(rows)]
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows([headings, *marked])
    source = folder / ("t.tsv" if delimiter == "\t" else "t.csv")
    source.write_text(text.getvalue(), "utf-8")
    try:
        outcome = convert_file(source, folder / "out.jsonl", "chat")
    except DatasetError:
        return  # it names the first row, as the test of single rows shows
    assert_adds_up(outcome)
    assert outcome.read == sum(1 for row in rows if row)
    said = (folder / "out.jsonl").read_text() + json.dumps(outcome.to_json(), ensure_ascii=False)
    dropped = {change.place.row for change in outcome.problems}
    lost = {path: item.count for path, item in outcome.lost.items()}
    kept = [cells for number, cells in enumerate([row for row in marked if row], 1) if number not in dropped]
    for place, name in enumerate(headings):
        if name in lost:
            assert lost[name] == len(kept)
        else:
            assert all(json.dumps(cells[place], ensure_ascii=False)[1:-1] in said for cells in kept), name
    assert check_files(folder / "out.jsonl").errors == []


@given(names=st.lists(st.sampled_from(sorted(SHAPES)), min_size=1, max_size=5), data=st.data())
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_fix_and_convert_write_passes_the_check(
    names: list[str], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("mixed")
    odd: st.SearchStrategy[Any] = st.sampled_from(
        [None, "", " ", 0, 1, True, [], {}, "nan", "a\u0085b", "\ud800", "x\x00y", 1.5, "user"]
    )
    records = []
    for name in names:
        record = copy.deepcopy(SHAPES[name])
        for path in data.draw(st.lists(st.sampled_from(list(_places(record))), max_size=2)):
            try:
                _holder(record, path)[path[-1]] = copy.deepcopy(data.draw(odd))
            except (TypeError, KeyError, IndexError):
                continue  # the first change took the place of the second away
        records.append(record)
    source = folder / "t.jsonl"
    source.write_bytes(json_lines(records))
    account_of(fix_file, source, folder / "fixed.jsonl")
    account_of(convert_file, source, folder / "converted.jsonl")


@pytest.mark.parametrize("number", ["1.50", "1e5", "-0.0", "1E+2", "1e400", "12345678901234567890123", "7"])
def test_numbers_become_the_texts_that_they_are_written_as(number: str, tmp_path: Path) -> None:
    source = tmp_path / "t.jsonl"
    turns = f'[{{"role": "user", "content": "q"}}, {{"role": "assistant", "content": {number}}}]'
    records = [
        f'{{"question": "q", "answer": {number}}}',
        f'{{"messages": {turns}}}',
        f'{{"messages": {json.dumps(turns)}}}',
    ]
    for place, record in enumerate(records):
        source.write_text(record + "\n")
        output = tmp_path / f"{place}.jsonl"
        convert_file(source, output, "prompt_completion")
        assert json.loads(output.read_text())["completion"] == number


@pytest.mark.parametrize(
    "record",
    [
        '{"question": "Zq7x", "question": "q", "answer": "a"}',
        '{"messages": [{"role": "user", "content": "Zq7x", "content": "q"}, {"role": "assistant", "content": "a"}]}',
        json.dumps(
            {"messages": '[{"role": "user", "content": "Zq7x", "content": "q"}, {"role": "assistant", "content": "a"}]'}
        ),
        json.dumps(
            {"messages": "[{'role': 'user', 'content': 'Zq7x', 'content': 'q'}, {'role': 'assistant', 'content': 'a'}]"}
        ),
        '{"question": "q", "answer": ["Zq7x", "a"]}',
        '{"question": "q", "answer": "a", "score": [NaN, "Zq7x"]}',
    ],
)
def test_what_json_readers_drop_in_silence_is_named(record: str, tmp_path: Path) -> None:
    source = tmp_path / "t.jsonl"
    source.write_text(record + "\n")
    said = account_of(lambda a, b: convert_file(a, b, "chat"), source, tmp_path / "out.jsonl")
    assert SENTINEL in said or said.startswith("left out")
    assert "object at 0x" not in said


@given(
    texts=st.lists(st.text(st.characters(codec="utf-8"), max_size=9), min_size=1, max_size=4),
    encoding=st.sampled_from(["utf-8-sig", "utf-16", "utf-16-le", "utf-32", "utf-32-be"]),
    cut=st.integers(0, 30),
)
@settings(max_examples=60, deadline=None)
def test_a_command_is_named_only_for_what_it_reads(
    texts: list[str], encoding: str, cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    source = folder / "t.jsonl"
    data = json_lines([{"question": "q", "answer": f"a {text}"} for text in texts]).decode().encode(encoding)
    source.write_bytes(data[: len(data) - cut])
    report = check_files(source)
    conversion = report.training.conversion
    if conversion is not None and conversion.first_row:
        convert_file(source, folder / "out.jsonl", conversion.form)
    else:
        assert report.errors
