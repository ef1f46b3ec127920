"""File locks with a record of their holder, and with messages and a limit for waits.

The operating system releases a lock when its process ends. The record beside the file is only for people; no decision
depends on it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from runner import local_files
from runner.errors import LockedError
from runner.json_text import parsed
from runner.waiting import waiting

LONGEST_SECONDS = 300.0
"""Maximum wait for a lock in seconds."""
_PAUSE_SECONDS = 0.1


@contextlib.contextmanager
def held(path: Path, *directories: Path, nothing: str, hint: str) -> Iterator[None]:
    """Hold the lock on a file in the block, and wait for it before.

    Args:
        path: name of the file, which is created if it is missing; the record of the holder is beside it.
        directories: the directories to create for it, outermost first.
        nothing: the effect on this command if the lock is not released, for the message.
        hint: of the errors of the disk.

    Raises:
        DiskError, ConfigurationError: the file cannot be opened or created.
        LockedError: another process held it all the time.
    """
    with local_files.opened_private(path, *directories, hint=hint) as descriptor:
        acquire(descriptor, path, nothing=nothing)
        yield


def acquire(descriptor: int, path: Path, *, nothing: str = "nothing was changed") -> None:
    """Lock an open file until it is closed; see `held`.

    Raises:
        LockedError: another process held it all the time.
        OSError: the file cannot be locked.
    """
    start = time.monotonic()
    if not _try(descriptor):
        with waiting(f"the lock on {path}: {holder(path)}"):
            while not _try(descriptor):
                if time.monotonic() - start > LONGEST_SECONDS:
                    raise LockedError(
                        f"{path} is locked: {holder(path)}; {nothing}",
                        hint="check that process, and end it if it hangs; then run the same command again",
                    )
                time.sleep(_PAUSE_SECONDS)
    note_holder(path)


def released(path: Path) -> bool:
    """Return whether a lock was held and its process has ended without `forget`."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        return _try(descriptor)
    finally:
        os.close(descriptor)


def forget(path: Path) -> None:
    """Remove the file of a lock that nobody else waits for."""
    for each in (path, _beside(path)):
        with contextlib.suppress(OSError):
            each.unlink()


def note_holder(path: Path) -> None:
    """Record beside a file that this process holds its lock."""
    body = {"pid": os.getpid(), "command": " ".join(sys.argv)[:300], "time": time.time()}
    with contextlib.suppress(OSError):
        _beside(path).write_text(json.dumps(body))


def holder(path: Path) -> str:
    """Describe the holder of the lock on a file."""
    try:
        body = parsed(_beside(path).read_bytes())
        pid, command, since = int(body["pid"]), str(body["command"]), float(body["time"])
    except (OSError, ValueError, KeyError, TypeError):
        return "another process holds it"
    return f"process {pid} ({command}) has held it since {time.strftime('%H:%M:%S', time.localtime(since))}"


def _try(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.holder")
