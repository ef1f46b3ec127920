"""Determines the layout of a text from its beginning: JSON Lines, a JSON document, or a table."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Literal

Layout = Literal["json-lines", "json", "table", "excel", "parquet"]

_SPACE = re.compile(r"[ \t\r\n]*")
# Numbers of any length are accepted here: the exact parser reports what is wrong with them.
raw_decode = json.JSONDecoder(parse_int=float).raw_decode

_CONTAINERS = ("rows", "data", "examples", "records", "items", "samples", "entries", "instances", "train", "dataset")
CONVERSATIONS = ("messages", "contents", "conversations", "conversation", "dialogue", "turns")
"""Names for a list of turns."""
PROMPTS = (
    "prompt", "question", "instruction", "input_text", "input", "user", "query", "text", "frage", "pregunta",
)  # fmt: skip
ANSWERS = (
    "completion", "answer", "response", "output_text", "output", "assistant", "chosen", "ideal", "label", "target",
    "antwort", "respuesta", "réponse", "reponse",
)  # fmt: skip
SYSTEMS = ("system", "system_prompt", "systemInstruction", "system_instruction", "system_message")
_SAID = frozenset([*CONVERSATIONS, *PROMPTS, *ANSWERS])
_NAMES = _SAID | {*SYSTEMS}
_TURNS = {*CONVERSATIONS, "dialog", "tools", "functions"}
_SPEAKERS = {"role", "from", "speaker", "author", "parts"}
_COLUMN = re.compile(r'\[\s*"|\{\s*"0"\s*:')
"""The beginning of a column of texts."""
VIEWER = {"row_idx", "row"}
"""Keys of a row that the Hugging Face dataset viewer exports."""


def usual_names(heading: list[str]) -> int:
    """Return the number of cells in a heading with a usual name of training data."""
    return sum(cell.strip().lower() in _NAMES for cell in heading)


@dataclass(kw_only=True)
class Plan:
    """How a text is to be read."""

    layout: Layout = "json-lines"
    description: str = "JSON Lines"
    notes: list[str] = field(default_factory=list)
    start: int = 0
    """Number of characters before the first value of a list in a JSON object."""
    form: Literal["values", "array", "member", "columns"] = "values"
    """How JSON arranges the values: one after another, in arrays, in a list inside an object, or column by column."""
    viewer: bool = False
    delimiter: str = ","
    skip_lines: int = 0
    """Number of lines before the heading of a table."""


def members(text: str, start: int) -> Iterator[tuple[str, int, int | None]]:
    """Yield key, start and end of each value of the JSON object at a place; the end is None if the text ends before."""
    place = _SPACE.match(text, start + 1).end()  # type: ignore[union-attr]
    while text[place : place + 1] == '"':
        try:
            key, place = raw_decode(text, place)
        except ValueError:
            return
        place = _SPACE.match(text, place).end()  # type: ignore[union-attr]
        if text[place : place + 1] != ":":
            return
        place = _SPACE.match(text, place + 1).end()  # type: ignore[union-attr]
        try:
            end = raw_decode(text, place)[1]
        except (ValueError, RecursionError):
            yield key, place, None
            return
        yield key, place, end
        place = _SPACE.match(text, end).end()  # type: ignore[union-attr]
        if text[place : place + 1] != ",":
            return
        place = _SPACE.match(text, place + 1).end()  # type: ignore[union-attr]


def plan_json(text: str, *, complete: bool, forced: bool = False) -> Plan:
    """Return how to read a text that starts with a bracket or brace.

    Args:
        text: the beginning of a file.
        complete: whether it is the whole file.
        forced: whether it is known not to be JSON Lines.
    """
    start = _SPACE.match(text).end()  # type: ignore[union-attr]
    newline = text.find("\n", start)
    line_end = len(text) if newline < 0 else newline
    alone = complete and not text[line_end:].strip()
    if text[start] == "{" and _is_columnar(text, start, complete=complete):
        return Plan(layout="json", form="columns", description="JSON that holds a table column by column")
    try:
        value, end = raw_decode(text, start)
    except (ValueError, RecursionError) as error:
        value, end = None, getattr(error, "pos", start)
        if getattr(error, "msg", "").startswith("Unterminated") and not complete:
            end = len(text)
        lines = (
            (newline < 0 and text[start] == "{")
            or end <= line_end < len(text)
            or object_in(text[line_end:].lstrip().partition("\n")[0]) is not None
        )
        if lines and text[start:line_end].strip() != "[" and not (text[start] == "[" and line_end == len(text)):
            member = _member(text, start, Plan()) if newline < 0 else None
            return member or (_values(text, start, None) if forced else Plan())
        end = None
    if text[start] == "[":
        one_line = end is not None and end <= line_end
        if one_line and not forced and not (alone and not text[end:].strip() and _objects(value)):
            return Plan()
        return Plan(layout="json", form="array", description="a JSON array")
    if isinstance(value, dict) and value.keys() >= VIEWER and isinstance(value["row"], dict):
        return _viewer(Plan(layout="json"))
    if end is None or (complete and not text[end:].strip()):
        member = _member(text, start, Plan())
        if member is not None:
            return member
    if end is not None and end <= line_end and not forced:
        return Plan()
    return _values(text, start, end)


def _is_columnar(text: str, start: int, *, complete: bool) -> bool:
    try:
        value, end = raw_decode(text, start)
    except (ValueError, RecursionError):
        key, place, _ = next(members(text, start), ("", start, None))
        named = key == "columns" or usual_names([key])
        return not complete and bool(named and _COLUMN.match(text, place))
    return complete and not text[end:].strip() and records_of_columns(value) is not None


def records_of_columns(value: Any) -> list[dict[str, Any]] | None:
    """Return the records of a table that is written column by column; None if a value is not such a table.

    `Dataset.to_dict` of Hugging Face and pandas' `to_json` write them: lists under the names of columns, or objects
    from rows to cells, or, with `orient="split"`, lists of rows beside the names.
    """
    if not isinstance(value, dict) or not value:
        return None
    columns, rows = list(value.values()), value.get("data")
    if value.keys() - {"index"} == {"columns", "data"} and isinstance(value["columns"], list):
        names = list(map(str, value["columns"]))
        fits = isinstance(rows, list) and all(isinstance(row, list) and len(row) == len(names) for row in rows)
        return [dict(zip(names, row, strict=True)) for row in rows or ()] if usual_names(names) and fits else None
    if all(isinstance(column, dict) for column in columns):
        places = list(columns[0])
        if any(column.keys() != columns[0].keys() for column in columns):
            return None
        columns = [[column[place] for place in places] for column in columns]
    elif any(not isinstance(column, list) or len(column) != len(columns[0]) for column in columns):
        return None
    cells = {name: column for name, column in zip(value, columns, strict=True) if name.lower() in _SAID}
    spoken = any(name in CONVERSATIONS and all(isinstance(cell, list) for cell in cells[name]) for name in cells)
    if (len(cells) < 2 and not spoken) or any(isinstance(cell, dict) for cell in chain(*cells.values())):
        return None
    return [dict(zip(value, row, strict=True)) for row in zip(*columns, strict=True)] or None


def _values(text: str, start: int, end: int | None) -> Plan:
    first = text.count("\n", 0, start) + 1
    where = f"lines {first}-{text.count(chr(10), 0, end) + 1}" if end is not None else f"from line {first}"
    return Plan(layout="json", description=f"pretty-printed JSON: objects span lines (first: {where})")


def _viewer(plan: Plan) -> Plan:
    plan.viewer, plan.description = True, "rows exported from the Hugging Face dataset viewer"
    return plan


def _objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def holds_object(text: str) -> bool:
    """Return whether one of the first lines is a JSON object by itself."""
    return any(object_in(line) is not None for line in text.split("\n", 20)[:20])


def object_in(line: str | bytes) -> dict[str, Any] | None:
    """Return the JSON object on a line, or None if the line is not an object."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _member(text: str, start: int, plan: Plan) -> Plan | None:
    """Return how to read an object whose list of objects is the dataset; None if the object itself is an example."""
    keys: list[str] = []
    lists: dict[str, tuple[int, dict[str, Any] | None]] = {}
    for key, place, _ in members(text, start):
        keys.append(key)
        first = _SPACE.match(text, place + 1).end()  # type: ignore[union-attr]
        if text.startswith("[", place) and text[first : first + 1] == "{" and key not in _TURNS:
            try:
                value = raw_decode(text, first)[0]
            except (ValueError, RecursionError):
                value = None
            # Under an unknown name, the list must contain records, not the turns of a record with a misspelled key.
            records = key in _CONTAINERS or (value is not None and not (_NAMES | _TURNS).isdisjoint(value))
            if records and (value is None or _SPEAKERS.isdisjoint(value)):
                lists[key] = (place + 1, value)
    known = [key for key in _CONTAINERS if key in lists]
    if not _NAMES.isdisjoint(keys) or not lists or not (known or len(lists) == 1):
        return None
    key = (known or list(lists))[0]
    plan.layout, plan.form, plan.description = "json", "member", f"a JSON object with a list under {key!r}"
    plan.start, value = lists[key]
    others = [repr(other) for other in keys if other != key]
    if value is not None and value.keys() >= VIEWER:
        return _viewer(plan)
    if others:
        plan.notes.append(f"only the list under {key!r} is read, not {', '.join(others[:10])}")
    return plan
