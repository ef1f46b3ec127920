"""Deployments under way, on disk before anything is sent.

A file each, below `deployments/` of the state directory: lines of JSON, appended and fsynced, the first naming every
resource that will be made. The process that deploys holds a lock on it; the system releases the lock when the process
ends, however it ends. A file without a lock is a deployment whose process is gone: `recovery` finishes or undoes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
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
_ROOM = "free disk space, or export RUNNER_STATE_DIR=DIRECTORY, then run the same command again"
_NOTHING_SENT = f"nothing was deployed; {_ROOM}"


@dataclass(slots=True, kw_only=True)
class DeploymentRecord:
    """What one deployment makes, and how far it is."""

    id: str
    parent: str
    """`projects/P/locations/L`."""
    endpoint: str
    """Full name."""
    own_endpoint: bool
    """Whether the endpoint is made by this deployment."""
    model: str
    """Full name of the Model resource that is made."""
    deployed_model: str = ""
    """Id on the endpoint; "" where the service chooses it."""
    traffic_before: dict[str, int] = field(default_factory=dict)
    percent: int = 100
    """Share of the traffic that it gets once it serves; 0 leaves the traffic as it is."""
    replaces: list[str] = field(default_factory=list)
    """Ids of the deployed models to take off once this one serves."""
    replaced_models: list[str] = field(default_factory=list)
    """Full names of their Model resources, which go with them."""
    labels: dict[str, str] = field(default_factory=dict)
    time: float = 0.0
    """When it began, in seconds since 1970 by the service's clock."""
    phase: Phase = "begun"
    operation: str = ""


class JournalEntry:
    """The file of one deployment, locked by this process."""

    def __init__(self, record: DeploymentRecord, path: Path, descriptor: int) -> None:
        self.record = record
        self.path = path
        self._descriptor = descriptor

    def mark(self, phase: Phase, operation: str = "") -> None:
        """Record that the deployment came so far. Raises DiskError, ConfigurationError: it cannot be written."""
        self.record.phase = phase
        self.record.operation = operation or self.record.operation
        entry = {"phase": phase, "operation": operation} if operation else {"phase": phase}
        _append(self.path, self._descriptor, entry)

    def close(self) -> None:
        """Forget the deployment: nothing is left to finish or to undo.

        A file that cannot be removed, as on a disk that has become read-only, is found again by the next command, which
        finds nothing left to do.
        """
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)

    def release(self) -> None:
        """Give the lock back; the file stays unless it was closed."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def begin(record: DeploymentRecord) -> JournalEntry:
    """Write a new deployment and hold its lock. Raises DiskError, ConfigurationError: then nothing may be sent."""
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
        raise local_files.unwritable(path, error, hint=_NOTHING_SENT) from error
    entry = JournalEntry(record, path, descriptor)
    body = {name: getattr(record, name) for name in record.__dataclass_fields__}
    try:
        local_files.append(path, descriptor, local_files.record_line(body), hint=_NOTHING_SENT)
        local_files.sync_directory(directory)
    except (RunnerError, OSError) as error:
        entry.close()
        entry.release()
        if isinstance(error, OSError):
            raise local_files.unwritable(path, error, hint=_NOTHING_SENT) from error
        raise
    return entry


@contextlib.contextmanager
def abandoned(parent: str) -> Iterator[list[JournalEntry]]:
    """Yield, locked, the deployments of a location whose processes are gone, oldest first."""
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


def damaged() -> list[tuple[Path, str]]:
    """Return the journals that cannot be read, and what is wrong with each. Changes nothing."""
    found = []
    for path in sorted((state_directory() / _FOLDER).glob("*.jsonl")):
        if not path.is_file() or path.is_symlink():
            found.append((path, f"{path} is not a regular file"))
            continue
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            _read(path, descriptor)
        except ConfigurationError as error:
            found.append((path, error.message))
        finally:
            os.close(descriptor)
    return found


def _take(path: Path, parent: str) -> JournalEntry | None:
    """Return an entry if nobody holds it, it can be read and it is of this location."""
    try:
        # To read: nothing is written to it any more, and the disk may have become read-only.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None  # finished by its process since
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
        # Torn in its first line: nothing was sent, since that line is on disk before.
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
    if record is None or record.parent != parent or not path.exists():
        os.close(descriptor)
        return None
    return JournalEntry(record, path, descriptor)


def _read(path: Path, descriptor: int) -> DeploymentRecord | None:
    """Return what is written, None if not even the first line is whole. Raises ConfigurationError: it is damaged."""
    content = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
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
        hint = "`runner repair` sets it aside; `runner endpoints ls` and `runner leaks` show what is there"
        raise ConfigurationError(message, hint=hint)
    return record


def _record_of(body: dict[str, Any]) -> DeploymentRecord | None:
    """Return the deployment that a first line describes, None if it describes none."""
    # Written out: the idle guard's archive has this module, and no library that does it.
    plain = {"own_endpoint": (bool,), "percent": (int,), "time": (int, float)}
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
