"""The journal of deployments in progress, on disk before anything is sent.

Each deployment has a file in `deployments/` of the state directory, with lines of JSON that are appended and fsynced.
The first line names every resource that will be created. The deploying process holds a lock on the file, which the
operating system releases when the process ends for any reason. A file without a lock is a deployment whose process has
ended: `recovery` completes or undoes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from runner import local_files
from runner.environment import state_directory
from runner.errors import ConfigurationError, RunnerError

logger = logging.getLogger(__name__)

Phase = Literal["begun", "sent", "accepted", "deployed", "handed over"]
_PHASES = frozenset(get_args(Phase))
_FOLDER = "deployments"
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_ROOM = "free disk space, or export RUNNER_STATE_DIR=DIRECTORY, then run the same command again"
NOTHING_SENT = f"nothing was deployed; {_ROOM}"


@dataclass(slots=True, kw_only=True)
class DeploymentRecord:
    """What one deployment creates, and its progress."""

    id: str
    parent: str
    """`projects/P/locations/L`."""
    endpoint: str
    """Full name."""
    own_endpoint: bool
    """Whether this deployment creates the endpoint."""
    model: str
    """Full name of the Model resource that is created."""
    deployed_model: str = ""
    """ID on the endpoint; "" if the service chooses it."""
    traffic_before: dict[str, int] = field(default_factory=dict)
    percent: int = 100
    """Share of the traffic when it serves; 0 leaves the traffic unchanged."""
    replaces: list[str] = field(default_factory=list)
    """IDs of the deployed models to undeploy when this one serves."""
    replaced_models: list[str] = field(default_factory=list)
    """Full names of their Model resources, which are deleted too."""
    labels: dict[str, str] = field(default_factory=dict)
    usd_per_hour: float | None = None
    """Price in US dollars per hour; None if it is unknown."""
    time: float = 0.0
    """Start time, in seconds since 1970 by the service's clock."""
    phase: Phase = "begun"
    operation: str = ""


class JournalEntry:
    """The file of one deployment, locked by this process."""

    def __init__(self, record: DeploymentRecord, path: Path, descriptor: int) -> None:
        self.record = record
        self.path = path
        self._descriptor = descriptor

    def mark(self, phase: Phase, operation: str = "") -> None:
        """Record a completed step. Raises DiskError, ConfigurationError if it cannot be written."""
        self.record.phase = phase
        self.record.operation = operation or self.record.operation
        entry = {"phase": phase, "operation": operation} if operation else {"phase": phase}
        _append(self.path, self._descriptor, entry)

    def close(self) -> None:
        """Remove the entry: nothing is left to complete or undo.

        If the file cannot be removed, for example on a read-only disk, the next command finds it again, and has nothing
        to do.
        """
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)

    def release(self) -> None:
        """Release the lock; the file stays unless it was closed."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def begin(record: DeploymentRecord) -> JournalEntry:
    """Write a new deployment and lock it. Raises DiskError, ConfigurationError; then nothing may be sent."""
    directory = state_directory() / _FOLDER
    path = directory / f"{record.id}.jsonl"
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        while True:
            descriptor = os.open(path, flags, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink:
                break
            os.close(descriptor)  # `abandoned` of another process found it empty and removed it
    except OSError as error:
        raise local_files.unwritable(path, error, hint=NOTHING_SENT) from error
    entry = JournalEntry(record, path, descriptor)
    body = {name: getattr(record, name) for name in record.__dataclass_fields__}
    try:
        local_files.append(path, descriptor, local_files.record_line(body), hint=NOTHING_SENT)
        local_files.sync_directory(directory)
    except (RunnerError, OSError) as error:
        entry.close()
        entry.release()
        if isinstance(error, OSError):
            raise local_files.unwritable(path, error, hint=NOTHING_SENT) from error
        raise
    return entry


@contextlib.contextmanager
def abandoned(parent: str) -> Iterator[list[JournalEntry]]:
    """Yield the locked deployments of a location whose processes have ended, oldest first."""
    entries: list[JournalEntry] = []
    try:
        for path in sorted((state_directory() / _FOLDER).glob("*.jsonl")):
            entry = _take(path, parent)
            if entry is not None:
                entries.append(entry)
        yield sorted(entries, key=lambda entry: entry.record.time)
    finally:
        for entry in entries:
            entry.release()


def pending(parent: str) -> list[DeploymentRecord]:
    """Return the deployments of a location that have begun on this machine and have not ended. Changes nothing."""
    found = (record for _, record in _each() if isinstance(record, DeploymentRecord))
    return [record for record in found if _may_be_same(record.parent, parent)]


def damaged() -> list[tuple[Path, str]]:
    """Return the journals that cannot be read, with the errors. Changes nothing."""
    return [(path, record) for path, record in _each() if isinstance(record, str)]


def _may_be_same(one: str, other: str) -> bool:
    """Return whether two names of locations can mean the same one: a project has an ID and a number."""
    (_, first, _, place), (_, second, _, there) = one.split("/"), other.split("/")
    return place == there and (first == second or first.isdecimal() != second.isdecimal())


def _each() -> Iterator[tuple[Path, DeploymentRecord | str | None]]:
    """Yield each journal with its deployment, or with the reason why it cannot be read; None if it has not begun."""
    for path in sorted((state_directory() / _FOLDER).glob("*.jsonl")):
        if path.is_symlink():
            yield path, f"{path} is not a regular file"
            continue
        try:
            descriptor = os.open(path, _READ)
        except FileNotFoundError:
            continue  # its deployment has ended since
        except OSError as error:
            yield path, f"{path}: {local_files.reason(error)}"
            continue
        try:
            yield path, _read(path, descriptor)
        except ConfigurationError as error:
            yield path, error.message
        finally:
            os.close(descriptor)


def _take(path: Path, parent: str) -> JournalEntry | None:
    """Return an entry if it is not locked, can be read, and is of this location."""
    try:
        # Opened for reading: nothing is written to it any more, and the disk may have become read-only.
        descriptor = os.open(path, _READ)
    except OSError:
        return None  # completed by its process since
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    try:
        record = _read(path, descriptor)
    except ConfigurationError as error:
        logger.warning(
            "%s; an interrupted deployment there is neither finished nor removed; %s", error.message, error.hint
        )
        os.close(descriptor)
        return None
    if record is None:
        # Its first line is incomplete: nothing was sent, because this line is on disk before.
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
    if record is None or record.parent != parent or not path.exists():
        os.close(descriptor)
        return None
    return JournalEntry(record, path, descriptor)


def _read(path: Path, descriptor: int) -> DeploymentRecord | None:
    """Return the entries; None if the first line is incomplete. Raises ConfigurationError if the file is damaged."""
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise ConfigurationError(f"{path} is not a regular file", hint="run `runner repair` to move it aside")
    content = os.pread(descriptor, found.st_size, 0)
    records = local_files.read_records(path, content)
    first, marks = (records[0], records[1:]) if records else (None, [])
    if first is None and b"\n" not in content:
        return None
    record = _record_of(first or {})
    for mark in marks:
        sound = mark.get("phase", "begun") in _PHASES and isinstance(mark.get("operation", ""), str)
        record = record if sound else None
        if record is None:
            break
        record.phase = mark.get("phase", record.phase)
        record.operation = mark.get("operation", record.operation)
    if record is None:
        message = f"{path}:1 is damaged: it describes no deployment"
        hint = "run `runner repair` to move it aside; `runner endpoints ls` and `runner leaks` show what exists"
        raise ConfigurationError(message, hint=hint)
    return record


def _record_of(body: dict[str, Any]) -> DeploymentRecord | None:
    """Return the deployment in a first line; None if there is none."""
    # Written without a library, because the idle guard's archive contains this module but no library for it.
    price = (int, float, type(None))
    plain = {"own_endpoint": (bool,), "percent": (int,), "time": (int, float), "usd_per_hour": price}
    lists = {"replaces", "replaced_models"}
    maps = {"labels": str, "traffic_before": int}
    try:
        record = DeploymentRecord(**body)
    except TypeError:
        return None
    for name in record.__dataclass_fields__:
        value = getattr(record, name)
        if name in lists:
            sound = isinstance(value, list) and all(isinstance(item, str) for item in value)
        elif name in maps:
            sound = isinstance(value, dict) and all(type(item) is maps[name] for item in value.values())
        else:
            sound = type(value) in plain.get(name, (str,))
        if not sound:
            return None
    return record if record.phase in _PHASES else None


def _append(path: Path, descriptor: int, entry: dict[str, Any]) -> None:
    hint = f"the deployment is being removed; `runner leaks --clean` removes the rest; {_ROOM}"
    local_files.append(path, descriptor, local_files.record_line(entry), hint=hint)
