"""The questions of a file, the journal of answers beside the output, and the output in the order of questions."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner import local_files
from runner.datasets.records.recognising import plain_examples
from runner.errors import ConfigurationError, require_sound
from runner.json_text import parsed

OWN_KEYS = frozenset({"id", "custom_id"})
"""Keys of a question that are copied to its answer instead of being sent."""
_MOST_PROBLEMS = 20
_ROOM = "free disk space, then run the same command again: answered questions are not asked again"


@dataclass(slots=True)
class Lines:
    """The questions of a file."""

    descriptor: int
    places: list[tuple[int, int, int]]
    """Offset, length and line number of each line that is not blank."""
    digest: str

    def body(self, index: int) -> dict[str, Any]:
        """Return a question."""
        offset, length, _ = self.places[index]
        found: dict[str, Any] = parsed(os.pread(self.descriptor, length, offset))
        return found


@contextmanager
def opened(source: Path) -> Iterator[Lines]:
    """Yield the input with every line checked. Raises ConfigurationError, DatasetError."""
    with plain_examples(source) as plain, _checked(source, plain) as found:
        yield found


@contextmanager
def _checked(source: Path, plain: Path) -> Iterator[Lines]:
    try:
        descriptor = os.open(plain, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise local_files.unreadable(source, error) from error
    try:
        digest = hashlib.sha256()
        places: list[tuple[int, int, int]] = []
        problems: list[str] = []
        offset = 0
        with os.fdopen(os.dup(descriptor), "rb") as file:
            for number, raw in enumerate(file, 1):
                digest.update(raw)
                if raw.strip():
                    places.append((offset, len(raw), number))
                    problem = _problem(raw)
                    if problem and len(problems) < _MOST_PROBLEMS:
                        problems.append(f"{source}:{number} {problem}")
                offset += len(raw)
        if not places:
            problems.append(f"{source} has no lines")
        require_sound(problems)
        yield Lines(descriptor, places, digest.hexdigest())
    finally:
        os.close(descriptor)


def _problem(raw: bytes) -> str:
    try:
        body = parsed(raw)
    except ValueError as error:
        return f"is not JSON: {error}"
    if not isinstance(body, dict):
        return "is not an object"
    if ("messages" in body) == ("prompt" in body):
        return "has neither messages nor prompt" if "messages" not in body else "has both messages and prompt"
    if "messages" in body and not (isinstance(body["messages"], list) and body["messages"]):
        return "has no messages"
    return ""


@dataclass(slots=True)
class Journal:
    """The answers so far, in a file."""

    path: Path
    descriptor: int
    places: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Offset and length of each line's answer."""
    size: int = 0
    failed: int = 0

    def add(self, results: list[tuple[int, dict[str, Any]]]) -> None:
        """Append answers, and return after they are on disk."""
        content = bytearray()
        places, failed = {}, 0
        for index, body in results:
            line = json.dumps({"index": index, **body}, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
            places[index] = (self.size + len(content), len(line))
            failed += "error" in body
            content += line
        local_files.append(self.path, self.descriptor, bytes(content), hint=_ROOM)
        self.places.update(places)
        self.failed += failed
        self.size += len(content)

    def body(self, index: int) -> dict[str, Any]:
        """Return an answer with its index."""
        offset, length = self.places[index]
        found: dict[str, Any] = parsed(os.pread(self.descriptor, length, offset))
        return found


@contextmanager
def journal_of(
    output: Path, lines: Lines, who: dict[str, str], sampling: dict[str, Any], restart: bool
) -> Iterator[Journal]:
    """Yield the locked journal of an output, with the answers of earlier runs. Raises ConfigurationError.

    Args:
        output: the output; the journal is beside it.
        lines: the questions.
        who: the model that answers: `{"endpoint": NAME}`.
        sampling: the values for lines that do not contain them.
        restart: discard the answers of earlier runs.
    """
    if output.is_dir():  # else noticed only when every answer is paid for
        raise ConfigurationError(f"{output}: a folder, not a file", hint="name the file for the answers")
    path = output.with_name(output.name + ".journal")
    head = {"input": lines.digest, **who, "sampling": sampling}
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise local_files.unwritable(path, error, hint=_ROOM) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigurationError(f"another run is writing {output}") from error
        if restart:
            os.ftruncate(descriptor, 0)
        journal = Journal(path, descriptor)
        _resume(journal, head, len(lines.places))
        yield journal
    finally:
        os.close(descriptor)


def _object(raw: bytes) -> dict[str, Any]:
    """Return the JSON object of a line; {} if it does not contain one."""
    try:
        body = parsed(raw)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _resume(journal: Journal, head: dict[str, Any], lines: int) -> None:
    """Read the existing answers, and remove an incomplete last line. Write the header of a new journal."""
    with os.fdopen(os.dup(journal.descriptor), "rb") as file:
        file.seek(0)
        first = file.readline()
        if not first.endswith(b"\n"):
            os.ftruncate(journal.descriptor, 0)
            content = json.dumps(head).encode() + b"\n"
            local_files.append(journal.path, journal.descriptor, content, hint=_ROOM)
            journal.size = len(content)
            return
        if _object(first) != head:
            message = f"{journal.path} is of another input, model or sampling"
            raise ConfigurationError(message, hint="discard it with --restart")
        journal.size = len(first)
        for raw in file:
            if not raw.endswith(b"\n"):
                break
            body = _object(raw)
            index = body.get("index")
            if not isinstance(index, int) or not 0 <= index < lines or ("answer" in body) == ("error" in body):
                message = f"{journal.path} is damaged: {raw[:60]!r} is no answer"
                raise ConfigurationError(message, hint="discard it with --restart")
            journal.places[index] = (journal.size, len(raw))
            journal.failed += "error" in body
            journal.size += len(raw)
    os.ftruncate(journal.descriptor, journal.size)


def write_output(output: Path, lines: Lines, journal: Journal) -> None:
    """Write the answers in the order of the input, atomically."""
    temporary = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        _write_answers(temporary, lines, journal)
        temporary.replace(output)
        local_files.sync_directory(output.parent)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise local_files.unwritable(output, error, hint=_ROOM) from error


def _write_answers(temporary: Path, lines: Lines, journal: Journal) -> None:
    with temporary.open("wb") as file:
        for index, (_, _, number) in enumerate(lines.places):
            question, answer = lines.body(index), journal.body(index)
            answer.pop("index")
            name = question.get("id", question.get("custom_id"))
            body = {"line": number, **({} if name is None else {"id": name}), **answer}
            file.write(json.dumps(body, ensure_ascii=False).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
