"""Whether a dataset is usable without changes; if not, what it is and which command converts it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from runner.datasets.examples import Finding, Format, ParsedLine
from runner.datasets.reading.compression import spooled
from runner.datasets.reading.layouts import object_in, raw_decode
from runner.datasets.reading.lines import RawLine
from runner.datasets.reading.opening import OpenedDataset, open_dataset
from runner.datasets.reading.rows import Row
from runner.datasets.reading.sources import Source, command_for, stem_of
from runner.datasets.records.adapting import is_foreign_shape, shape_of
from runner.datasets.records.lines import LineMaker, Made
from runner.datasets.records.local_images import image_reader
from runner.datasets.rules.parsing import detect_format, parse_all
from runner.errors import DatasetError

SAMPLED = 20
"""Number of rows that are read to recognize a shape."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreign:
    """A dataset that must be converted before it can be used."""

    name: str
    """Name of the file."""
    description: str
    """Its description: `CSV separated by ';' with records of 'Frage' and 'Antwort'`."""
    first_row: str
    """The conversion of the first row that can be converted; empty if none of the first rows can."""
    problem: str
    """Why rows among the first cannot be converted."""
    left: tuple[str, ...]
    """JSON paths in the first row that an example cannot contain."""
    form: Format
    """The documented format to convert it to."""
    command: str
    """The command that converts it."""

    @property
    def hint(self) -> str:
        """Return what to do."""
        return self.command if self.first_row else f"name the columns, or correct the file, then: {self.command}"

    def finding(self) -> Finding:
        """Return its single problem."""
        why = f"; {self.problem}" if self.problem else ""
        return Finding(
            code="other-format",
            severity="error",
            file=self.name,
            line=0,
            message=f"the file is {self.description}, not JSON Lines of a documented format{why}",
            fix=f"convert it: {self.command}" if self.first_row else self.hint,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        return {
            "description": self.description,
            "firstRow": json.loads(self.first_row) if self.first_row else None,
            "problem": self.problem,
            "notCarriedOver": list(self.left),
            "command": self.command,
        }


class ForeignError(DatasetError):
    """A dataset must be converted first."""

    def __init__(self, foreign: Foreign) -> None:
        finding = foreign.finding()
        super().__init__(f"{finding.place}: {finding.message}", findings=[finding.to_json()], hint=foreign.hint)
        self.foreign = foreign


@contextmanager
def open_examples(source: Source) -> Iterator[OpenedDataset]:
    """Open a dataset whose lines are JSON Lines of a documented format, with any compression and encoding.

    Raises:
        ForeignError: it must be converted first.
        ConfigurationError, DatasetError, EngineMissingError: see `open_dataset`.
    """
    with open_dataset(source) as opened:
        foreign = recognise(opened)
        if foreign is not None:
            raise ForeignError(foreign)
        yield opened


@contextmanager
def plain_examples(source: Source) -> Iterator[Path]:
    """Yield a local file with the plain UTF-8 lines of a dataset: the file itself, or a temporary copy.

    Raises:
        ForeignError, ConfigurationError, DatasetError, EngineMissingError: see `open_examples`.
    """
    with open_examples(source) as opened, ExitStack() as stack:
        if isinstance(source, Path) and opened.is_plain:
            yield source
        else:
            yield spooled(opened.lines(), f"{stem_of(source)}.jsonl", stack)


def read_examples(source: Source, *, images: bool = True) -> Iterator[ParsedLine]:
    """Yield the parsed lines of a dataset, without blank ones. Raises the errors of `open_examples`."""
    with open_examples(source) as opened:
        yield from parse_all(opened.lines(), opened.name, images=images)


def is_foreign(source: Source) -> bool:
    """Return whether a dataset must be converted first. Raises the errors of `open_dataset`."""
    with open_dataset(source) as opened:
        return recognise(opened) is not None


def recognise(opened: OpenedDataset) -> Foreign | None:
    """Return what an opened dataset is; None if its lines, which can then still be read, are in a documented format.

    Raises:
        DatasetError: see `OpenedDataset.rows`.
    """
    if opened.layout == "json-lines":
        lines = [line for line in opened.head.split("\n", SAMPLED)[:SAMPLED] if object_in(line) is not None]
        rows = [Row(0, 0, data=line.encode("utf-8", "surrogateescape")) for line in lines]
    else:
        rows = list(islice(opened.rows(), SAMPLED))
    records = [record for row in rows if (record := row.value or object_in(row.data)) is not None]
    known = next((kind for record in records if (kind := detect_format(record))), None)
    if opened.layout == "json-lines" and (known or not records):
        return None
    form: Format = known or "chat"
    found = _made(rows, form, opened.source)
    if form == "prompt_completion" and any(made.problem for made in found):
        chats = _made(rows, "chat", opened.source)  # those have system texts and images
        if sum(bool(made.problem) for made in chats) < sum(bool(made.problem) for made in found):
            form, found = "chat", chats
    doubtful = all(made.problem or any(" renamed " in note for note in made.notes) for made in found)
    unnamed = all(made.problem.startswith("no ") for made in found) and all(map(_has_two_texts, records))
    if opened.layout == "json-lines" and doubtful and not unnamed and not any(map(is_foreign_shape, records)):
        return None  # the parser reports missing keys and near misses
    if opened.layout == "json-lines":
        for _ in islice(opened.rows(), SAMPLED):
            pass  # raises if the bytes cannot be decoded: no command can read them
    cut = next((row.problem for row in rows if row.cut), "")  # such a file is not converted
    good = [made for made in found if not made.problem and not cut]
    bad = [cut] if cut else [made.problem for made in found if made.problem]
    problem = bad[0] if bad else "" if found else "it has no rows"
    if good and bad:
        problem = f"{len(bad)} of the first {len(found)} rows cannot be converted ({problem})"
    shape = shape_of(records[0]) if records else ""
    return Foreign(
        name=opened.name,
        description=f"{opened.description} with {shape}" if shape else opened.description,
        form=form,
        first_row=good[0].line.decode().strip() if good else "",
        problem=problem,
        left=tuple(dict.fromkeys(loss.path for loss in good[0].losses)) if good else (),
        command=command_for(opened.source, form, nameless=not good and problem.startswith("no ")),
    )


def is_mendable(opened: OpenedDataset) -> bool:
    """Return whether one of the first lines can become an example, as in `fix_file`."""
    maker = LineMaker(None, image_reader(opened.source), mend=True)
    lines = opened.head.split("\n", SAMPLED)[:SAMPLED]
    if len(lines[0]) == len(opened.head):  # perhaps the beginning of a longer line, of which one object is enough
        with suppress(ValueError, RecursionError):
            lines = [lines[0][: raw_decode(lines[0])[1]]]
    raws = (RawLine(2, line.encode("utf-8", "surrogateescape")) for line in lines)
    return any(made.line for raw in raws for made in maker.of_text(raw))


def _made(rows: list[Row], form: Format, source: Source) -> list[Made]:
    """Return the results for the first rows."""
    maker = LineMaker(form, image_reader(source))
    return [made for row in rows for made in maker.of_row(row)]


def _has_two_texts(record: dict[str, Any]) -> bool:
    """Return whether a record may contain a prompt and an answer, under any names."""
    return sum(isinstance(value, str) for value in record.values()) > 1
