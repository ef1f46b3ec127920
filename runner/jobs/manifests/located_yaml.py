"""YAML with the line of every value, and without the features of YAML that surprise.

Plain values follow the core schema of YAML 1.2: `no` is a text and `2e-5` is a number, unlike in YAML 1.1. Tags, merge
keys, duplicate keys and aliases that expand without limit are refused. Tags never construct objects.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

MAX_BYTES = 1024 * 1024
"""Maximum size of one file."""
MAX_VALUES = 20_000
"""Maximum number of values in one document, with expanded aliases."""
MAX_DEPTH = 32
MAX_DOCUMENTS = 1000
_OURS, _THEIRS = (re.compile(mark, re.MULTILINE) for mark in (r"^<{7} ", r"^={7}\r?$"))
"""Start of each side of a merge conflict."""
_INTEGER = re.compile(r"[-+]?[0-9]{1,18}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,3})?")
_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


@dataclass(slots=True)
class Located:
    """A value and its position."""

    value: Any
    """A scalar, a list of Located, or a dict of str to Located."""
    line: int
    """Line number, from 1."""
    size: int = 1
    """Number of values in it, including itself."""
    keys: dict[str, int] = field(default_factory=dict)
    """The line of each key, if this is a mapping."""

    def plain(self) -> Any:
        """Return the value without positions."""
        if isinstance(self.value, dict):
            return {key: item.plain() for key, item in self.value.items()}
        if isinstance(self.value, list):
            return [item.plain() for item in self.value]
        return self.value

    def line_of(self, path: tuple[str | int, ...]) -> int:
        """Return the line of the value at `path`, or of its nearest existing parent."""
        return self._nearest(path)[0]

    def has(self, path: tuple[str | int, ...]) -> bool:
        """Return whether there is a value at `path`."""
        return self._nearest(path)[1] == len(path)

    def _nearest(self, path: tuple[str | int, ...]) -> tuple[int, int]:
        """Return the line of the nearest value, and the number of path elements that lead to it."""
        here, line = self, self.line
        for done, step in enumerate(path):
            if isinstance(here.value, dict) and step in here.value:
                line = here.keys[str(step)]
                here = here.value[step]
            elif isinstance(here.value, list) and isinstance(step, int) and step < len(here.value):
                here = here.value[step]
                line = here.line
            else:
                return line, done
        return line, len(path)


@dataclass(frozen=True, slots=True)
class YamlProblem:
    """An error in a file."""

    line: int
    message: str


class _StopReadingError(Exception):
    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.problem = YamlProblem(line, message)


def read(content: bytes) -> tuple[list[Located], list[YamlProblem]]:
    """Return the documents of a file and all its YAML errors; empty documents are omitted.

    After a syntax error, the documents before it are returned.
    """
    if len(content) > MAX_BYTES:
        return [], [YamlProblem(1, f"{len(content)} bytes; at most {MAX_BYTES} are read")]
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return [], [YamlProblem(line, "is not UTF-8")]
    conflict = _OURS.search(text)
    if conflict and _THEIRS.search(text, conflict.end()):  # it causes all other errors
        return [], [YamlProblem(text.count("\n", 0, conflict.start()) + 1, "a merge conflict that nobody has resolved")]
    reader = _Reader()
    documents: list[Located] = []
    try:
        for document in reader.documents(text):
            documents.append(document)
            if len(documents) > MAX_DOCUMENTS:
                raise _StopReadingError(document.line, f"more than {MAX_DOCUMENTS} documents")
    except _StopReadingError as stop:
        reader.problems.append(stop.problem)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reader.problems.append(YamlProblem(mark.line + 1 if mark else 1, f"is not YAML: {error.problem}"))
    except yaml.YAMLError as error:
        reader.problems.append(YamlProblem(1, f"is not YAML: {str(error).splitlines()[0]}"))
    return documents, reader.problems


class _Reader:
    """Builds values from the parser's flat events, so that deep nesting in a file cannot overflow the stack."""

    def __init__(self) -> None:
        self.problems: list[YamlProblem] = []
        self._anchors: dict[str, Located | None] = {}

    def documents(self, text: str) -> Iterator[Located]:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        events = yaml.parse(text, Loader=loader)
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                self._anchors = {}
                root = self._value(next(events), events, 0)
                if root.value is not None:
                    yield root

    def _value(self, event: Any, events: Iterator[Any], depth: int) -> Located:
        line = event.start_mark.line + 1
        if depth > MAX_DEPTH:
            raise _StopReadingError(line, f"nested deeper than {MAX_DEPTH}")
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, line)
        if event.anchor:
            self._anchors[event.anchor] = None
        if event.tag and event.tag != "!":
            self.problems.append(YamlProblem(line, f"tags such as {event.tag} are not read"))
        if isinstance(event, yaml.ScalarEvent):
            found = Located(self._scalar(event, line), line)
        elif isinstance(event, yaml.SequenceStartEvent):
            found = self._sequence(events, line, depth)
        else:
            found = self._mapping(events, line, depth)
        if found.size > MAX_VALUES:
            raise _StopReadingError(line, f"more than {MAX_VALUES} values, with aliases expanded")
        if event.anchor:
            self._anchors[event.anchor] = found
        return found

    def _alias(self, event: Any, line: int) -> Located:
        target = self._anchors.get(event.anchor)
        if target is None:
            what = "contains itself" if event.anchor in self._anchors else "is not defined"
            raise _StopReadingError(line, f"alias *{event.anchor} {what}")
        return target

    def _sequence(self, events: Iterator[Any], line: int, depth: int) -> Located:
        found = Located([], line)
        for event in events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            item = self._value(event, events, depth + 1)
            found.value.append(item)
            self._grow(found, item)
        return found

    def _mapping(self, events: Iterator[Any], line: int, depth: int) -> Located:
        found = Located({}, line)
        for event in events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            at = event.start_mark.line + 1
            plain = isinstance(event, yaml.ScalarEvent)
            key = self._value(event, events, depth + 1)
            item = self._value(next(events), events, depth + 1)
            self._grow(found, item)
            name = event.value if plain else None
            if name is None or not isinstance(key.value, str | int | float | bool | None):
                self.problems.append(YamlProblem(at, "a key must be a plain text"))
            elif name == "<<":
                self.problems.append(YamlProblem(at, "merge keys (<<) are not read; write the fields out"))
            elif name in found.value:
                self.problems.append(YamlProblem(at, f"key {name!r} appears twice, first in line {found.keys[name]}"))
            else:
                found.value[name] = item
                found.keys[name] = at
        return found

    def _grow(self, found: Located, item: Located) -> None:
        found.size += item.size
        if found.size > MAX_VALUES:
            raise _StopReadingError(item.line, f"more than {MAX_VALUES} values, with aliases expanded")

    def _scalar(self, event: Any, line: int) -> Any:
        text: str = event.value
        if not event.implicit[0]:
            return text
        if text in _WORDS:
            return _WORDS[text]
        if _INTEGER.fullmatch(text):
            return int(text)
        if _FLOAT.fullmatch(text):
            number = float(text)
            if math.isfinite(number):
                return number
        if text.lower() in {".nan", ".inf", "-.inf", "+.inf"}:
            self.problems.append(YamlProblem(line, f"{text} is not a number that a job can use"))
        return text
