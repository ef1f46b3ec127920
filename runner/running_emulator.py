"""The emulator that runs on this machine: its address and its process.

A state directory has at most one server. While it runs, `server.json` contains its address and process. The server
writes this file when it can be reached, and removes it when it ends. The file alone proves nothing: a killed server
leaves it behind, and another program may have its process ID now. Therefore, a process counts as the server only if its
command line contains the emulator's module and this directory.
"""

from __future__ import annotations

import fcntl
from dataclasses import dataclass
from pathlib import Path

from runner.json_text import parsed

SERVER_FILE = "server.json"
LOG_FILE = "emulator.log"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerInfo:
    """A running server."""

    url: str
    pid: int
    started: str
    """Time at which it was ready, RFC 3339."""
    token: str | None = None
    """Bearer token that every request needs."""

    def describe(self, directory: Path) -> dict[str, object]:
        """Return the fields that can be shown."""
        return {
            "url": self.url,
            "pid": self.pid,
            "started": self.started,
            "directory": str(directory),
            "log": str(directory / LOG_FILE),
            "token": "set" if self.token else None,
        }


def find(directory: Path) -> ServerInfo | None:
    """Return the server of a state directory, or None."""
    try:
        info = ServerInfo(**parsed((directory / SERVER_FILE).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
    return info if is_server(info.pid, directory) else None


def is_server(pid: int, directory: Path) -> bool:
    """Return whether a process is the server of a state directory."""
    if not isinstance(pid, int) or pid <= 1:
        return False
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except FileNotFoundError:
        if Path("/proc/self/cmdline").exists():
            return False
        # This system has no /proc: macOS.
        import subprocess  # imported here, because read-only commands do not need it

        shown = subprocess.run(["ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True)
        return "runner.emulator" in shown.stdout and str(directory.absolute()) in shown.stdout
    except OSError:
        return False
    names = any(word == "runner.emulator" or word.endswith("/runner/emulator/__main__.py") for word in words)
    if names:
        return str(directory.absolute()) in words
    # The command line of `runner emulator start --foreground` does not contain the directory; the lock shows the
    # server.
    return "--foreground" in words and _is_locked(directory)


def _is_locked(directory: Path) -> bool:
    """Return whether a server has locked a state directory."""
    try:
        with (directory / "lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
