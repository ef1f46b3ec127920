"""The ledger: intents to create a job, on disk before anything is claimed or sent.

Each entry is a line of JSON that is appended and fsynced: `claiming` before the claim is written, `intent` before the
create request is sent, and the outcome. The ledger records what may have been sent from this machine, the service's
list of jobs shows what has happened, and the service's clock determines how long ago. This machine's clock is not used
for decisions.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from runner import local_files
from runner import locks as locks_of_files
from runner.environment import state_directory
from runner.errors import ConfigurationError, RunnerError

Outcome = Literal["created", "adopted", "refused", "unsent", "abandoned"]

_NOTHING_SENT = (
    "nothing was submitted; free disk space, or export RUNNER_STATE_DIR=DIRECTORY, then run the same command again"
)
_MEND = "`runner repair` keeps what is sound and sets the file aside"
_LOCKS = 64
_TEXTS = ("kind", "fingerprint", "parent", "owner", "job")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trail:
    """The entries of this machine for one fingerprint that led to no known job."""

    sent: frozenset[str] = frozenset()
    """Owners whose create request may have been sent; "" for a claim of an earlier version, which recorded no owner."""
    unsent: frozenset[str] = frozenset()
    """Owners whose processes have ended and have sent nothing."""
    open: bool = False
    """Whether the newest intent has no outcome."""


class Ledger:
    """The ledger of this user: `with Ledger.open(fingerprint) as ledger`.

    One process at a time holds each fingerprint. The file is locked only while it is read or written.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    @classmethod
    @contextlib.contextmanager
    def open(cls, fingerprint: str, directory: Path | None = None) -> Iterator[Ledger]:
        """Wait until no other process of this machine submits this fingerprint, and lock it.

        Raises:
            DiskError, ConfigurationError: the ledger cannot be written.
            LockedError: another process submits it and does not finish.
        """
        directory = directory or state_directory()
        path, locks = path_in(directory), directory / "submissions.locks"
        # Several fingerprints share a lock, to limit the number of files.
        lock = locks / f"{zlib.crc32(fingerprint.encode()) % _LOCKS:02}"
        with (
            locks_of_files.held(lock, directory, locks, nothing="nothing was submitted", hint=_NOTHING_SENT),
            local_files.opened_private(path, hint=_NOTHING_SENT) as descriptor,
        ):
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ConfigurationError(f"{path} is not a regular file", hint=f"nothing was submitted; {_MEND}")
            yield cls(path, descriptor)

    def trail(self, fingerprint: str, parent: str) -> Trail:
        """Return the entries for a fingerprint.

        The process that has opened the ledger for a fingerprint is the only one that submits it, so the processes of
        the recorded owners have ended.

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
        """Record the outcome of an intent. Return "", or the reason why it could not be written.

        If an outcome is missing, the next submission looks for the job by its fingerprint.
        """
        entry = {"kind": outcome, "fingerprint": fingerprint, "parent": parent}
        try:
            self._append({**entry, "job": job} if job else entry)
        except RunnerError as error:
            return error.message
        return ""

    def _entries(self) -> list[dict[str, Any]]:
        """Return the entries. Raises ConfigurationError if the ledger is damaged; then nothing may be sent."""
        with self._alone():
            content = os.pread(self._descriptor, os.fstat(self._descriptor).st_size, 0)
        return _entries(self.path, content)

    def _append(self, entry: dict[str, Any]) -> None:
        # The time is only for people; no decision depends on it.
        line = local_files.record_line({**entry, "time": time.time()})
        with self._alone():
            fresh = not os.fstat(self._descriptor).st_size
            local_files.append(self.path, self._descriptor, line, hint=_NOTHING_SENT)
            if fresh:
                try:
                    local_files.sync_directory(self.path.parent)
                except OSError as error:
                    os.ftruncate(self._descriptor, 0)
                    raise local_files.unwritable(self.path, error, hint=_NOTHING_SENT) from error

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Lock the file against reading and writing by others for a moment."""
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)


def path_in(directory: Path) -> Path:
    """Return the path of the ledger in a state directory."""
    return directory / "submissions.jsonl"


def damage_of(path: Path) -> str:
    """Return the error of a ledger; "" if it is valid or does not exist. Changes nothing."""
    if not path.exists() and not path.is_symlink():
        return ""
    if not path.is_file() or path.is_symlink():
        return f"{path} is not a regular file"
    try:
        _entries(path, path.read_bytes())
    except ConfigurationError as error:
        return error.message
    except OSError as error:
        raise local_files.unusable(path, error) from error
    return ""


def sound_lines(path: Path) -> list[bytes]:
    """Return the readable lines of a damaged ledger, with their line ends."""
    kept = []
    for line in path.read_bytes().splitlines():
        with contextlib.suppress(ConfigurationError):
            kept += [line + b"\n"] if _entries(path, line + b"\n") else []
    return kept


def _entries(path: Path, content: bytes) -> list[dict[str, Any]]:
    """Return the entries of a ledger. Raises ConfigurationError if it is damaged."""
    entries = local_files.read_records(path, content)
    for entry in entries:
        wrong = [key for key in _TEXTS if not isinstance(entry.get(key, ""), str)]
        if wrong or "kind" not in entry:
            message = f"{path} is damaged: an entry has no valid {wrong[0] if wrong else 'kind'}"
            raise ConfigurationError(message, hint=f"nothing was submitted; {_MEND}")
    return entries
