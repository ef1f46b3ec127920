"""Intents to create a job, on disk before the create is sent.

A line of JSON each, appended and fsynced. After a crash or a lost answer the ledger says that a create may have
happened; the service's list of jobs says whether it has. A torn last line is one whose create was never sent.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from runner import local_files
from runner.environment import state_directory
from runner.errors import RunnerError

Outcome = Literal["created", "adopted", "refused", "unsent", "abandoned"]

_NOTHING_SENT = (
    "nothing was submitted; free disk space, or export RUNNER_STATE_DIR=DIRECTORY, then run the same command again"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """A create that was about to be sent and whose outcome is not recorded."""

    fingerprint: str
    parent: str
    """`projects/P/locations/L`."""
    time: float
    """Seconds since 1970."""

    @property
    def age(self) -> float:
        """Return seconds since it was written; the distance counts, so that a clock set back does not matter."""
        return abs(time.time() - self.time)


class Ledger:
    """The ledger of this user, held by one process at a time: `with Ledger.open() as ledger`."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    @classmethod
    @contextlib.contextmanager
    def open(cls, directory: Path | None = None) -> Iterator[Ledger]:
        """Wait for the ledger and hold it. Raises DiskError, ConfigurationError: it cannot be written."""
        directory = directory or state_directory()
        path = directory / "submissions.jsonl"
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(path, flags, 0o600)
        except OSError as error:
            raise local_files.unwritable(path, error, hint=_NOTHING_SENT) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield cls(path, descriptor)
        finally:
            os.close(descriptor)

    def open_intent(self, fingerprint: str, parent: str) -> Intent | None:
        """Return the newest intent of a fingerprint without an outcome, None if there is none."""
        found: Intent | None = None
        for entry in self._entries():
            if (entry.get("fingerprint"), entry.get("parent")) != (fingerprint, parent):
                continue
            if entry.get("kind") == "intent":
                found = Intent(fingerprint=fingerprint, parent=parent, time=float(entry.get("time", 0.0)))
            else:
                found = None
        return found

    def dead_owners(self, fingerprint: str, parent: str) -> frozenset[str]:
        """Return the names under which this user claimed the create, of intents that no known job came of.

        Their processes are gone: whoever holds the ledger is the only one that runs.
        """
        owners: set[str] = set()
        last = ""
        for entry in self._entries():
            if (entry.get("fingerprint"), entry.get("parent")) != (fingerprint, parent):
                continue
            if entry.get("kind") == "intent":
                last = str(entry.get("owner", ""))
                owners.add(last)
            elif entry.get("kind") in ("created", "adopted"):
                owners.discard(last)
        return frozenset(owners - {""})

    def intend(self, fingerprint: str, parent: str, owner: str = "") -> None:
        """Record that a create is about to be sent, claimed as `owner`.

        Raises:
            DiskError, ConfigurationError: it cannot be recorded; then nothing may be sent.
        """
        entry = {"kind": "intent", "fingerprint": fingerprint, "parent": parent, "time": time.time()}
        self._append({**entry, "owner": owner} if owner else entry)

    def record(self, fingerprint: str, parent: str, outcome: Outcome, job: str = "") -> str:
        """Record what became of an intent. Return "", or why that could not be written.

        What is missing here is found out by the next submission, which looks for the job by its fingerprint.
        """
        entry = {"kind": outcome, "fingerprint": fingerprint, "parent": parent, "time": time.time()}
        try:
            self._append({**entry, "job": job} if job else entry)
        except RunnerError as error:
            return error.message
        return ""

    def _entries(self) -> list[dict[str, Any]]:
        """Return what is written. Raises ConfigurationError: it is damaged; then nothing may be sent."""
        size = os.fstat(self._descriptor).st_size
        return local_files.read_records(self.path, os.pread(self._descriptor, size, 0))

    def _append(self, entry: dict[str, Any]) -> None:
        fresh = not os.fstat(self._descriptor).st_size
        local_files.append(self.path, self._descriptor, local_files.record_line(entry), hint=_NOTHING_SENT)
        if fresh:
            try:
                local_files.sync_directory(self.path.parent)
            except OSError as error:
                os.ftruncate(self._descriptor, 0)
                raise local_files.unwritable(self.path, error, hint=_NOTHING_SENT) from error
