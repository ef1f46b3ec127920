"""The state file of `infra.embedded`, which records what was created."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from infra.embedded.rest import EmbeddedError
from runner.errors import LockedError
from runner.local_files import check_room, unusable, unwritable
from runner.locks import holder, note_holder

VERSION = 1
_ROOM = 256 * 1024
"""Maximum size of a stack's records in bytes; a larger state fails when it is written."""
_AGAIN = "free disk space, then run the same command again: it finds what was made"
LOCAL = "local"
"""The stack of `runner emulator provision` and `Pulumi.local.yaml`."""


@dataclass(slots=True, kw_only=True)
class Record:
    """One resource that exists."""

    type: str
    name: str
    """The name in the program; with `type` it is unique."""
    id: str
    inputs: dict[str, Any]
    """The inputs from the program, with the provider's labels."""
    body: dict[str, Any] = field(default_factory=dict)
    """The body of the last request."""
    protect: bool = False
    retain: bool = False
    """Kept when the program no longer has it."""
    dependencies: list[str] = field(default_factory=list)
    """Keys of its dependencies."""

    @property
    def key(self) -> str:
        """Return its identifier in reports and in the file."""
        return f"{self.type.rsplit(':', 1)[-1]} {self.name}"


class State:
    """Records of one stack, in the order of their creation.

    The file, which can hold other stacks too, is written after each change, so that a killed process loses nothing.
    """

    def __init__(self, path: Path | None, project: str, stack: str, stacks: dict[str, Any]) -> None:
        self._path = path
        self._stacks = stacks
        self._stack = stack
        own = project if stack == LOCAL else f"{project}/{stack}"
        # Versions with only one stack per project wrote no name: the records belong to the first applied stack.
        older = own not in stacks and project in stacks and "stack" not in stacks[project]
        self._key, self._was = own, project if older else own
        mine = stacks.get(self._was, {"endpoints": {}, "resources": []})
        self.endpoints: dict[str, str] = mine["endpoints"]
        self.outputs: dict[str, Any] = mine.get("outputs", {})
        self.settings: str = mine.get("settings", "")
        """A digest of the settings of the last successful apply."""
        records = [Record(**row) for row in mine["resources"]]
        self._records = {(record.type, record.name): record for record in records}

    @property
    def records(self) -> list[Record]:
        """Return the records, oldest first."""
        return list(self._records.values())

    def find(self, type_: str, name: str) -> Record | None:
        """Return a record."""
        return self._records.get((type_, name))

    def recorded(self) -> dict[str, Any]:
        """Return the records in the form of the engine's state."""
        root = "urn:pulumi:local::open-model-tuning::"
        found: dict[str, Any] = {f"{root}pulumi:pulumi:Stack::local": {"outputs": self.outputs}}
        return found | {f"{root}{item.type}::{item.name}": {"outputs": item.inputs} for item in self.records}

    def publish(self, outputs: dict[str, Any]) -> None:
        """Record the stack's outputs."""
        if outputs != self.outputs:
            self.outputs = outputs
            self._write()

    def settle(self, settings: str) -> None:
        """Record a digest of the settings that all resources were created with."""
        if settings != self.settings:
            self.settings = settings
            self._write()

    def rename(self, record: Record, name: str) -> Record:
        """Rename a record to the name that the program now uses."""
        self._records.pop((record.type, record.name), None)
        renamed = replace(record, name=name)
        self._records[(renamed.type, name)] = renamed
        self._write()
        return renamed

    def move(self, endpoints: dict[str, str]) -> None:
        """Record the emulator's current address."""
        if endpoints != self.endpoints:
            self.endpoints = endpoints
            self._write()

    def keep(self, record: Record) -> None:
        """Add or replace a record, and write the file if this changes it."""
        if self._records.get((record.type, record.name)) != record:
            self._records[(record.type, record.name)] = record
            self._write()

    def forget(self, record: Record) -> None:
        """Remove a record and write the file."""
        self._records.pop((record.type, record.name), None)
        self._write()

    def _write(self) -> None:
        if self._path is None:
            return
        self._stacks.pop(self._was, None)
        if self._records:
            rows = [asdict(record) for record in self.records]
            self._was = self._key
            self._stacks[self._key] = {
                "stack": self._stack,
                "endpoints": self.endpoints,
                "outputs": self.outputs,
                "settings": self.settings,
                "resources": rows,
            }
        try:
            if not self._stacks:
                self._path.unlink(missing_ok=True)
                return
            aside = self._path.with_name(self._path.name + ".new")
            descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w") as file:
                json.dump({"version": VERSION, "stacks": self._stacks}, file, indent=1)
            aside.replace(self._path)
        except OSError as error:
            raise unwritable(self._path, error, hint=_AGAIN) from error


@contextlib.contextmanager
def opened(path: Path | None, project: str, stack: str = LOCAL) -> Iterator[State]:
    """Open the state file for one stack of a project, and lock it; None keeps the records in memory only.

    Raises:
        LockedError: another process has locked it.
        EmbeddedError: it is not a state file.
        DiskError, ConfigurationError: it cannot be read or written. Nothing was changed.
    """
    if path is None:
        yield State(None, project, stack, {})
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        check_room(path.parent, _ROOM)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise LockedError(
                f"another process works with {path}: {holder(path)}; nothing was changed",
                hint="wait until it has ended, then run the same command again",
            ) from error
        note_holder(path)
        yield _read(path, project, stack)
    finally:
        os.close(descriptor)


def _read(path: Path, project: str, stack: str) -> State:
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return State(path, project, stack, {})
    except OSError as error:
        raise unusable(path, error) from error
    try:
        body = json.loads(text)
        if body["version"] != VERSION:
            raise EmbeddedError(f"{path} was written by another version of this program", hint="use another --state")
        return State(path, project, stack, body["stacks"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EmbeddedError(f"{path} is not a state file of this program: {error!r}") from error
