"""Intents to create a job, on disk before anything is claimed or sent.

A line of JSON each, appended and fsynced: `claiming` before the claim is written, `intent` before the create is sent,
and what became of it. The ledger says what may have been sent from this machine; the service's list of jobs says what
has happened; the service's clock says how long ago. This machine's clock decides nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from runner import local_files
from runner.environment import state_directory
from runner.errors import ConfigurationError, RunnerError

Outcome = Literal["created", "adopted", "refused", "unsent", "abandoned"]

_NOTHING_SENT = (
    "nothing was submitted; free disk space, or export RUNNER_STATE_DIR=DIRECTORY, then run the same command again"
)
_MEND = "look at what runs with `runner jobs ls`, then move the file away"
_TEXTS = ("kind", "fingerprint", "parent", "owner", "job")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trail:
    """What this machine has done about one fingerprint, as far as no known job came of it."""

    sent: frozenset[str] = frozenset()
    """Owners whose create may have been sent; "" for a claim of an earlier version, which wrote no owner."""
    unsent: frozenset[str] = frozenset()
    """Owners that are gone and have sent nothing."""
    open: bool = False
    """The newest intent has no outcome."""


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
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
            descriptor = os.open(path, flags, 0o600)
        except OSError as error:
            raise local_files.unwritable(path, error, hint=_NOTHING_SENT) from error
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                message = f"{path} is not a regular file"
                raise ConfigurationError(message, problems=[message], hint=f"nothing was submitted; {_MEND}")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield cls(path, descriptor)
        finally:
            os.close(descriptor)

    def trail(self, fingerprint: str, parent: str) -> Trail:
        """Return what was done about a fingerprint.

        Whoever holds the ledger is the only process of this machine that submits, so the owners in it are gone.

        Raises:
            ConfigurationError: the ledger is damaged; then nothing may be sent.
        """
        sent: set[str] = set()
        unsent: set[str] = set()
        last: str | None = None
        kind = ""
        for entry in self._entries():
            if (entry.get("fingerprint"), entry.get("parent")) != (fingerprint, parent):
                continue
            kind = entry["kind"]
            if kind in ("claiming", "intent"):
                last = entry.get("owner", "")
                (unsent if kind == "claiming" else sent).add(last)
                (sent if kind == "claiming" else unsent).discard(last)
            elif kind in ("created", "adopted"):
                sent.clear()
                unsent.clear()
            elif last is not None:
                sent.discard(last)
                unsent.add(last)
        return Trail(sent=frozenset(sent), unsent=frozenset(unsent - {""}), open=kind in ("claiming", "intent"))

    def claiming(self, fingerprint: str, parent: str, owner: str) -> None:
        """Record that a claim is about to be written. Raises DiskError, ConfigurationError: it cannot be recorded."""
        self._append({"kind": "claiming", "fingerprint": fingerprint, "parent": parent, "owner": owner})

    def intend(self, fingerprint: str, parent: str, owner: str) -> None:
        """Record that a create is about to be sent.

        Raises:
            DiskError, ConfigurationError: it cannot be recorded; then nothing may be sent.
        """
        self._append({"kind": "intent", "fingerprint": fingerprint, "parent": parent, "owner": owner})

    def record(self, fingerprint: str, parent: str, outcome: Outcome, job: str = "") -> str:
        """Record what became of an intent. Return "", or why that could not be written.

        What is missing here is found out by the next submission, which looks for the job by its fingerprint.
        """
        entry = {"kind": outcome, "fingerprint": fingerprint, "parent": parent}
        try:
            self._append({**entry, "job": job} if job else entry)
        except RunnerError as error:
            return error.message
        return ""

    def _entries(self) -> list[dict[str, Any]]:
        """Return what is written. Raises ConfigurationError: it is damaged; then nothing may be sent."""
        size = os.fstat(self._descriptor).st_size
        entries = local_files.read_records(self.path, os.pread(self._descriptor, size, 0))
        for entry in entries:
            wrong = [key for key in _TEXTS if not isinstance(entry.get(key, ""), str)]
            if wrong or "kind" not in entry:
                message = f"{self.path} is damaged: an entry has no valid {wrong[0] if wrong else 'kind'}"
                raise ConfigurationError(message, problems=[message], hint=f"nothing was submitted; {_MEND}")
        return entries

    def _append(self, entry: dict[str, Any]) -> None:
        fresh = not os.fstat(self._descriptor).st_size
        # The time is for people: nothing is decided by it.
        line = local_files.record_line({**entry, "time": time.time()})
        local_files.append(self.path, self._descriptor, line, hint=_NOTHING_SENT)
        if fresh:
            try:
                local_files.sync_directory(self.path.parent)
            except OSError as error:
                os.ftruncate(self._descriptor, 0)
                raise local_files.unwritable(self.path, error, hint=_NOTHING_SENT) from error
