"""Turn what data come in (tables, lists of records, other tools' chats) into the documented formats."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from importlib import util
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from runner.datasets import native
from runner.datasets.compiled import CompiledReshaper
from runner.datasets.examples import Example, Format, Role
from runner.datasets.json_lines import RawLine
from runner.datasets.parsing import parse_raw
from runner.datasets.raw_lines import Piece
from runner.datasets.reshaping import Reshaper
from runner.datasets.sources import Source, is_there, name_of, open_source, plain_copy, plain_name
from runner.datasets.summarise import blocks
from runner.datasets.targets import open_target, refuse_existing
from runner.datasets.writing import NotExpressibleError, to_line
from runner.errors import ConfigurationError, EngineMissingError

PROBLEMS_KEPT = 1000
_LARGE_PIECES = 8192
"""Mean bytes."""
_MAX_JSON_BYTES = 1 << 30
"""A JSON array is read whole; more than this does not belong into one."""

_PROMPTS = ("prompt", "question", "instruction", "input_text", "input", "user", "text")
_ANSWERS = ("completion", "answer", "response", "output_text", "output", "assistant", "label", "target")
_SYSTEMS = ("system", "system_prompt")
_SPEAKERS: dict[str, Role] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "system": "system",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Names of the columns of a table or record; None: the usual names are looked for."""

    prompt: str | None = None
    answer: str | None = None
    system: str | None = None


@dataclass(slots=True, kw_only=True)
class Conversion:
    """The outcome of `convert_file`."""

    output: Path
    format: Format
    rows: int = 0
    skipped: int = 0
    problems: list[tuple[int, str]] = field(default_factory=list)
    """Row (from 1) and why it was left out; the first thousand."""

    def skip(self, row: int, why: str) -> None:
        """Count a row that is left out."""
        self.skipped += 1
        if len(self.problems) < PROBLEMS_KEPT:
            self.problems.append((row, why))

    def to_json(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        return {
            "output": str(self.output),
            "format": self.format,
            "rows": self.rows,
            "skipped": self.skipped,
            "problems": [{"row": row, "message": why} for row, why in self.problems],
        }


def convert_file(
    path: Source,
    output: Path,
    form: Format,
    *,
    columns: Columns | None = None,
    kind: str | None = None,
    compiled: bool = True,
) -> Conversion:
    """Write a file's rows as lines of a documented format.

    Read are JSON Lines of any documented format, ShareGPT's `conversations` and records with a prompt and an answer
    (Alpaca and the like); the same in a JSON array; CSV and TSV with a heading; Parquet where pyarrow is installed.

    Args:
        path: its suffix says what it is: .jsonl, .json, .csv, .tsv or .parquet, perhaps with .gz or .zst behind it.
        output: written; must not exist. Compressed if its name says so.
        form: format of the output.
        kind: what it is where the name does not say: `jsonl`, `json`, `csv`, `tsv` or `parquet`.
        columns: names of columns, where they are not the usual ones.
        compiled: write JSON Lines with the compiled package where it is installed.

    Raises:
        ConfigurationError: a file is not there or there already, or a column is missing.
        EngineMissingError: Parquet without pyarrow.
    """
    if not is_there(path):
        raise ConfigurationError(f"{path}: no such file")
    refuse_existing(output)
    conversion = Conversion(output=output, format=form)
    columns = columns or Columns()
    kind = kind or PurePosixPath(plain_name(path)).suffix.removeprefix(".")
    readers: dict[str, Callable[[Source], Iterator[Any]]] = {
        "json": _array,
        "parquet": _parquet,
        "csv": lambda source: _table(source, ","),
        "tsv": lambda source: _table(source, "\t"),
    }
    if kind in readers:
        _convert_records(readers[kind](path), conversion, columns)
    else:
        _convert_lines(path, conversion, columns, compiled and native.is_installed())
    return conversion


def _convert_records(records: Iterator[Any], conversion: Conversion, columns: Columns) -> None:
    first = next(records, None)
    if first is None:
        raise ConfigurationError("there is no row to convert")
    problem = _missing_columns(first, columns)
    if problem:
        raise ConfigurationError(problem, hint="--prompt-column and --answer-column name the columns")
    with open_target(conversion.output) as target:
        row = 0
        record: Any = first
        while record is not None:
            row += 1
            _record(record, row, conversion, columns, target)
            record = next(records, None)


def _record(record: Any, row: int, conversion: Conversion, columns: Columns, target: Any) -> None:
    body = _body(record, columns)
    if body is None:
        conversion.skip(row, "no prompt and answer in it")
        return
    try:
        line = msgspec.json.encode(body)
    except (UnicodeEncodeError, TypeError) as error:
        conversion.skip(row, f"it cannot be written as JSON ({error})")
        return
    parsed = parse_raw(RawLine(row + 1, line))
    if parsed is None or parsed.example is None:
        errors = [finding for finding in parsed.findings if finding.severity == "error"] if parsed else []
        conversion.skip(row, f"{errors[0].path}: {errors[0].message}" if errors else "it is empty")
        return
    _write(parsed.example, row, conversion, target)


def _write(example: Example, row: int, conversion: Conversion, target: Any) -> None:
    try:
        target.write(to_line(example, conversion.format))
        conversion.rows += 1
    except NotExpressibleError as error:
        conversion.skip(row, error.message)


def _convert_lines(path: Source, conversion: Conversion, columns: Columns, compiled: bool) -> None:
    base = 0
    convert: Callable[[Any, bytes, int], int]
    if compiled:
        convert = partial(_convert_compiled, CompiledReshaper(conversion.format), conversion, columns)
    else:
        convert = partial(_convert_block, Reshaper(conversion.format), conversion, columns)
    with open_source(path) as stream, open_target(conversion.output) as target:
        for block in blocks(stream):
            if block is None:
                base += 1
                conversion.skip(base, "the line is too long")
            else:
                base += convert(target, block, base)


def _convert_compiled(
    reshaper: CompiledReshaper, conversion: Conversion, columns: Columns, target: Any, block: bytes, base: int
) -> int:
    """Convert the lines of a block, which follow `base` others; return their number."""
    made, count, rows, others = reshaper.reshape(block)
    conversion.rows += rows
    written = 0
    for index, start, end, place in others:
        target.write(made[written:place])
        written = place
        _convert_line(block[start:end], base + index + 1, conversion, columns, target)
    target.write(made[written:] if written else made)
    return count


def _convert_block(
    reshaper: Reshaper, conversion: Conversion, columns: Columns, target: Any, block: bytes, base: int
) -> int:
    """Convert the lines of a block, which follow `base` others; return their number."""
    ready: list[Piece] = []
    # A block of one line is a long line, which is not copied for its line end.
    alone = block.find(b"\n") in {-1, len(block) - 1}
    lines = [block] if alone else block.removesuffix(b"\n").split(b"\n")
    for row, line in enumerate(lines, base + 1):
        pieces = reshaper.reshape(line)
        if pieces is not None:
            conversion.rows += 1
            ready += pieces
            continue
        _flush(ready, target)
        _convert_line(line, row, conversion, columns, target)
    _flush(ready, target)
    return len(lines)


def _flush(ready: list[Piece], target: Any) -> None:
    """Write pieces and forget them; joining them first pays where they are small."""
    if sum(map(len, ready)) > _LARGE_PIECES * len(ready):
        target.writelines(ready)
    else:
        target.write(b"".join(ready))
    ready.clear()


def _convert_line(line: bytes, row: int, conversion: Conversion, columns: Columns, target: Any) -> None:
    raw = RawLine(row, line.rstrip(b"\r\n"))
    parsed = parse_raw(raw)
    if parsed is None:
        return
    if parsed.example is not None:
        _write(parsed.example, row, conversion, target)
        return
    if any(finding.code in {"unknown-format", "missing-key"} for finding in parsed.findings):
        try:
            record = json.loads(raw.data)
        except (ValueError, RecursionError):
            record = None
        if isinstance(record, dict) and _body(record, columns) is not None:
            _record(record, row, conversion, columns, target)
            return
    error = next(finding for finding in parsed.findings if finding.severity == "error")
    conversion.skip(row, f"{error.path}: {error.message}" if error.path else error.message)


def _missing_columns(record: Any, columns: Columns) -> str:
    if not isinstance(record, dict):
        return "the rows are no records"
    missing = [name for name in (columns.prompt, columns.answer, columns.system) if name and name not in record]
    if missing:
        return f"no column {', '.join(map(repr, missing))}: there are {', '.join(map(repr, list(record)[:20]))}"
    if _body(record, columns, empty_allowed=True) is None:
        return f"no prompt and answer among the columns {', '.join(map(repr, list(record)[:20]))}"
    return ""


def _body(record: Any, columns: Columns, *, empty_allowed: bool = False) -> dict[str, Any] | None:
    """Return a record as a line of a documented format, or None."""
    if not isinstance(record, dict):
        return None
    if columns.prompt is None and any(key in record for key in ("messages", "contents")):
        return record
    turns = record.get("conversations", record.get("conversation"))
    if isinstance(turns, list):
        return _conversation(turns, record)
    prompt = _text(record, columns.prompt, _PROMPTS)
    answer = _text(record, columns.answer, _ANSWERS)
    if prompt is None or answer is None:
        return None
    # Alpaca: the instruction goes before its input.
    if columns.prompt is None and isinstance(record.get("instruction"), str) and isinstance(record.get("input"), str):
        prompt = record["instruction"] + (f"\n\n{record['input']}" if record["input"].strip() else "")
    if not empty_allowed and not (prompt.strip() and answer.strip()):
        return {"prompt": prompt, "completion": answer}
    system = _text(record, columns.system, _SYSTEMS)
    if system and system.strip():
        messages = [("system", system), ("user", prompt), ("assistant", answer)]
        return {"messages": [{"role": role, "content": text} for role, text in messages]}
    return {"prompt": prompt, "completion": answer}


def _conversation(turns: list[Any], record: dict[str, Any]) -> dict[str, Any] | None:
    messages: list[dict[str, Any]] = []
    if isinstance(record.get("system"), str) and record["system"].strip():
        messages.append({"role": "system", "content": record["system"]})
    for turn in turns:
        if not isinstance(turn, dict):
            return None
        speaker = turn.get("from", turn.get("role"))
        role = _SPEAKERS.get(speaker.lower(), speaker) if isinstance(speaker, str) else speaker
        messages.append({"role": role, "content": turn.get("value", turn.get("content"))})
    return {"messages": messages}


def _text(record: dict[str, Any], name: str | None, usual: tuple[str, ...]) -> str | None:
    for key in (name,) if name else usual:
        value = record.get(key)
        if isinstance(value, str):
            return value
        if name and isinstance(value, (int, float)) and not isinstance(value, bool):
            return str(value)
    return None


def _table(path: Source, delimiter: str) -> Iterator[dict[str, Any]]:
    csv.field_size_limit(64 << 20)
    with open_source(path) as source:
        stream = io.TextIOWrapper(source, encoding="utf-8-sig", newline="", errors="strict")
        try:
            for row in csv.DictReader(stream, delimiter=delimiter, strict=True):
                yield {key: value for key, value in row.items() if key is not None}
        except (csv.Error, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{name_of(path)} is no valid table: {error}") from error


def _array(path: Source) -> Iterator[Any]:
    name = name_of(path)
    with open_source(path) as stream:
        data = stream.read(_MAX_JSON_BYTES + 1)
    if len(data) > _MAX_JSON_BYTES:
        raise ConfigurationError(f"{name} is larger than 1 GiB: a JSON array is read whole", hint="use JSON Lines")
    try:
        body = msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigurationError(f"{name} is no JSON: {error}") from error
    if isinstance(body, dict):
        lists = [value for value in body.values() if isinstance(value, list)]
        body = lists[0] if len(lists) == 1 else body
    if not isinstance(body, list):
        raise ConfigurationError(f"{name} holds no list of records", hint="JSON Lines have the suffix .jsonl")
    yield from body


def _parquet(path: Source) -> Iterator[Any]:
    if util.find_spec("pyarrow") is None:
        raise EngineMissingError("reading Parquet needs pyarrow", hint="pip install 'open-model-tuning[data]'")
    import pyarrow
    from pyarrow import parquet

    with plain_copy(path) as copy:
        try:
            for batch in parquet.ParquetFile(copy).iter_batches(batch_size=1000):
                yield from map(_without_nulls, batch.to_pylist())
        except pyarrow.ArrowException as error:
            raise ConfigurationError(f"{name_of(path)} is no valid Parquet file: {error}") from error


def _without_nulls(value: Any) -> Any:
    """Leave out the keys without a value: a column of Parquet has every key of any of its rows."""
    if isinstance(value, dict):
        return {key: _without_nulls(child) for key, child in value.items() if child is not None}
    return [_without_nulls(child) for child in value] if isinstance(value, list) else value
