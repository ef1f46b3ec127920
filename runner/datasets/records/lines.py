"""Turns the rows of any source into lines of one documented format, with an account of each row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runner.datasets.examples import Example, Format, Message, ParsedLine, TextPart
from runner.datasets.reading.lines import RawLine
from runner.datasets.reading.rows import Row
from runner.datasets.records.adapting import Columns, adapt
from runner.datasets.records.fields import Account, UnfitError
from runner.datasets.records.salvage import objects_of
from runner.datasets.records.turns import ReadImage
from runner.datasets.records.writing import NotExpressibleError, losses_of, to_line
from runner.datasets.rules.parsing import detect_format, parse_raw
from runner.datasets.rules.texts import without_controls


@dataclass(slots=True, kw_only=True)
class Made(Account):
    """The result for one record."""

    line: bytes = b""
    """The line in the target format, with its line end; empty if the record is omitted."""
    example: Example | None = None
    problem: str = ""
    """Why it is omitted: the JSON path and what is wrong there."""


class LineMaker:
    """Creates lines that pass the check.

    Args:
        form: the format of the lines; None uses the format of the first record that can become an example.
        read_image: see `adapt`.
        columns: see `adapt`.
        mend: remove control characters from texts, and rewrite lines that only have warnings.
    """

    def __init__(
        self,
        form: Format | None,
        read_image: ReadImage,
        *,
        columns: Columns | None = None,
        mend: bool = False,
    ) -> None:
        self.form = form
        self._columns = columns
        self._read_image = read_image
        self._mend = mend

    def of_row(self, row: Row) -> list[Made]:
        """Return the results for a row of any layout."""
        if row.problem:
            return [Made(problem=row.problem)]
        return self.of_text(RawLine(max(2, row.line), row.data)) if row.value is None else [self.of_record(row.value)]

    def of_text(self, raw: RawLine) -> list[Made]:
        """Return the results for a line of JSON, which can contain several objects; none for a blank line."""
        parsed = parse_raw(raw)
        if parsed is None:
            return []
        if parsed.example is not None and self._is_carried(parsed, raw.data):
            made = self._written(parsed.example, Made(), sound=True)
            if self._mend and self.form == parsed.example.format:
                made.line = raw.data + b"\n"
            elif self._mend:
                made.notes.append(f"written as {self.form}: one format a file")
            return [made]
        account = Account()
        try:
            if raw.too_long:
                raise UnfitError("the line is too long")
            records = objects_of(raw.data, account)
        except UnfitError as error:
            return [Made(problem=_reason(parsed) or error.message)]
        if len(records) > 1:
            account.notes.append(f"{len(records)} objects on one line")
        found = [self.of_record(record) for record in records]
        for made in found:
            made.notes[:0] = account.notes
            if self._mend and not made.notes:
                made.notes.append(f"rewritten: {parsed.findings[0].message}")
        if found:
            found[0].losses[:0] = account.losses
        return found

    def of_record(self, record: Any) -> Made:
        """Return the result for a decoded record."""
        made = Made()
        try:
            messages, near = adapt(record, made, self._read_image, self._columns)
        except UnfitError as error:
            return Made(problem=error.message)
        if made.losses and self._mend:
            made.notes += [f"not carried over: {path}" for path in dict.fromkeys(loss.path for loss in made.losses)]
        if self._mend:
            messages = tuple(_cleaned(message, made.notes) for message in messages)
        form: Format = near if self._mend or detect_format(record) else "chat"
        return self._written(Example(line=1, format=form, messages=messages), made)

    def _is_carried(self, parsed: ParsedLine, data: bytes) -> bool:
        """Return whether everything in a line is in its example."""
        if self._mend:
            return not parsed.findings
        # The parser does not keep the names of speakers and the role of a system instruction.
        escaped = b"\\u006" in data or b"\\u007" in data  # a letter of a key may be escaped
        silent = b'"name"' in data or b'nstruction"' in data or escaped
        return not silent and all(finding.code != "unknown-key" for finding in parsed.findings)

    def _written(self, example: Example, made: Made, *, sound: bool = False) -> Made:
        """Add the line of an example; parse it again unless the example is known to be valid."""
        form = self.form or example.format
        try:
            line = to_line(example, form)
        except NotExpressibleError as error:
            made.problem = error.message
            return made
        except UnicodeEncodeError:
            made.problem = "a text holds half a surrogate pair"
            return made
        again = None if sound else parse_raw(RawLine(2, line))
        if not sound and (again is None or again.example is None):
            made.problem = _reason(again) or "it is empty"
            return made
        self.form = form
        made.line, made.example = line, example if again is None else again.example
        lost = losses_of(example, form)
        made.losses += lost
        return made


def _cleaned(message: Message, notes: list[str]) -> Message:
    """Return a turn without control characters."""
    parts = tuple(
        TextPart(without_controls(part.text)) if isinstance(part, TextPart) else part for part in message.parts
    )
    if parts != message.parts:
        notes.append("control characters removed")
    return Message(message.role, parts, message.name)


def _reason(parsed: ParsedLine | None) -> str:
    for finding in parsed.findings if parsed is not None else ():
        if finding.severity == "error":
            return f"{finding.path}: {finding.message}" if finding.path else finding.message
    return ""
