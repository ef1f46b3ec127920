"""Reads the values of JSON that is not JSON Lines, as a stream. Memory is limited to one value."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any

from runner.datasets.reading.layouts import VIEWER, Plan, members, raw_decode, records_of_columns
from runner.datasets.reading.lines import MAX_LINE_BYTES
from runner.datasets.reading.rows import Row, Written

_BLOCK_BYTES = 256 * 1024
_SEPARATORS = re.compile(r"[ \t\r\n,]*")
_LONGEST_TOKEN = 16
"""Length of the longest token except strings: a syntax error closer to the end of the read text may not be one."""


def read_values(stream: Any, plan: Plan) -> Iterator[Row]:
    """Yield the values of a document as rows whose `data` is their JSON text.

    After a broken value, reading continues at the next line that starts one.
    """
    text = _Text(stream)
    text.skip(plan.start)
    if plan.form == "columns":
        yield from _table(text)
        return
    inside = plan.form == "member"
    number = 0
    while char := text.next():
        line = text.line
        if plan.form == "array" and not inside:
            if char != "[":
                yield Row(number + 1, line, problem="text follows the end of the array: it is not read", cut=True)
                return
            text.skip(1)
            inside = True
        elif inside and char == "]":
            text.skip(1)
            inside = False
            if plan.form == "member":
                yield from _rest(text, number + 1)
                return
        else:
            number += 1
            value, data, problem = text.value()
            if not problem:
                yield _row(number, line, value, data, viewer=plan.viewer)
            elif text.seek_next_line():
                yield Row(number, line, problem=problem)
            else:
                yield Row(number, line, problem=f"{problem}; nothing after it can be read", cut=True)
                return
    if inside:
        yield Row(number + 1, text.line, problem="the file ends inside the list: it is cut short", cut=True)


def _table(text: _Text) -> Iterator[Row]:
    """Read a table that is a single value, with one column after another."""
    line = text.line if text.next() else 1
    _, data, problem = text.value()
    records = None if problem else records_of_columns(json.loads(data, parse_float=Written))
    if records is None or text.next():
        problem = problem or ("text follows the end of the table" if records else "its columns differ in length")
        yield Row(1, line, problem=problem, cut=True)
        return
    for number, record in enumerate(records, 1):
        yield Row(number, 0, record)


def _row(number: int, line: int, value: Any, data: str, *, viewer: bool) -> Row:
    if viewer and isinstance(value, dict) and value.keys() >= VIEWER:
        cut = value.get("truncated_cells")
        if cut:
            cells = ", ".join(map(str, cut)) if isinstance(cut, list) else str(cut)
            return Row(number, line, problem=f"the dataset viewer has cut cells short: {cells}")
        spans = {key: (start, end) for key, start, end in members(data, 0)}
        data = data[slice(*spans["row"])]
    # A string in JSON contains no line ends.
    encoded = data.replace("\r", " ").replace("\n", " ").encode()
    if len(encoded) > MAX_LINE_BYTES:
        return Row(number, line, problem=_TOO_LONG)
    return Row(number, line, data=encoded)


def _rest(text: _Text, number: int) -> Iterator[Row]:
    """Read the rest of an object after its list."""
    line = text.line
    text.replace('{"":0')
    problem = text.value()[2]
    if problem:
        yield Row(number, line, problem=f"after its list, the object is broken: {problem}")
    elif text.next():
        yield Row(number, text.line, problem="text follows the end of the object: it is not read", cut=True)


_TOO_LONG = f"the value is longer than {MAX_LINE_BYTES >> 20} MiB"


class _Text:
    """A part of a text, with a place in it and the line number of the place."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._part = ""
        self._place = 0
        self._before = ""
        """The end of the line's text before the part."""
        self._ended = False
        self.line = 1

    def _more(self) -> None:
        """Read more; the part doubles, so that the text that is scanned again is never longer than the new text."""
        left = len(self._part) - self._place
        block = self._stream.read(max(_BLOCK_BYTES, min(left, MAX_LINE_BYTES + 1 - left)))
        self._ended = not block
        self._before = self._left()[-_BLOCK_BYTES // 1024 :]
        self._part = self._part[self._place :] + self._decoder.decode(block, not block)
        self._place = 0

    def _left(self) -> str:
        """Return the line's text before the place, or the end of that text."""
        start = self._part.rfind("\n", 0, self._place) + 1
        return self._part[start : self._place] if start else self._before + self._part[: self._place]

    def skip(self, count: int) -> None:
        """Skip this number of characters, or all if there are fewer."""
        while len(self._part) - self._place < count and not self._ended:
            self._more()
        end = min(self._place + count, len(self._part))
        self.line += self._part.count("\n", self._place, end)
        self._place = end

    def replace(self, text: str) -> None:
        """Replace the text before the place."""
        self._part, self._place = text + self._part[self._place :], 0

    def next(self) -> str:
        """Skip white space and commas; return the next character, or "" at the end."""
        while True:
            end = _SEPARATORS.match(self._part, self._place).end()  # type: ignore[union-attr]
            self.skip(end - self._place)
            if self._place < len(self._part) or self._ended:
                return self._part[self._place : self._place + 1]
            self._more()

    def value(self) -> tuple[Any, str, str]:
        """Skip a JSON value; return it, its text and "". If it is broken, return what is wrong and stay."""
        while True:
            try:
                value, end = raw_decode(self._part, self._place)
            except RecursionError:
                return None, "", "it is nested too deeply"
            except ValueError as error:
                message, place = getattr(error, "msg", str(error)), getattr(error, "pos", self._place)
                cut = place + _LONGEST_TOKEN >= len(self._part) or message.startswith("Unterminated")
                if self._ended or not cut:
                    line = self.line + self._part.count("\n", self._place, place)
                    unfinished = message.startswith("Unterminated") or not self._part[place + 1 :].strip()
                    if cut and unfinished:
                        message = "the file ends inside the value"
                    return None, "", f"{message} (line {line})"
            else:
                # A number at the end of the read text may continue.
                if end < len(self._part) or self._ended or isinstance(value, (dict, list, str)):
                    data = self._part[self._place : end]
                    self.skip(end - self._place)
                    return value, data, ""
            if len(self._part) - self._place > MAX_LINE_BYTES:
                return None, "", _TOO_LONG
            self._more()

    def seek_next_line(self) -> bool:
        """Go to the next line that starts an object no deeper than the value at the place; False if there is none."""
        before = self._left()
        if before.strip("[, \t"):
            return False
        start = re.compile(rf"\n[ \t]{{0,{len(before)}}}(?=\{{)")
        while True:
            found = start.search(self._part, self._place)
            if found is not None:
                self.skip(found.end() - self._place)
                return True
            if self._ended:
                return False
            self.skip(max(0, len(self._part) - self._place - len(before) - 2))
            self._more()
