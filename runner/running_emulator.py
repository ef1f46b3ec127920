"""The emulator that runs on this machine: where it listens, and which process it is.

A state directory holds at most one server. While it runs, `server.json` says where it listens and which process it is;
the server itself writes that file once it can be reached and removes it when it ends. The file alone proves nothing: a
server that was killed leaves it behind, and its process number may belong to another program by now. So a process is
taken for the server only if its command line names the emulator's module and this directory.
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
    """When it could first be reached, RFC 3339."""
    token: str | None = None
    """Bearer token that it demands of every request."""

    def describe(self, directory: Path) -> dict[str, object]:
        """Return what may be shown of it."""
        return {
            "url": self.url,
            "pid": self.pid,
            "started": self.started,
            "directory": str(directory),
            "log": str(directory / LOG_FILE),
            "token": "set" if self.token else None,
        }


def find(directory: Path) -> ServerInfo | None:
    """Return the server that runs on a state directory, or None."""
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
        # No /proc on this system: macOS.
        import subprocess  # only here: commands that only look do not load it

        shown = subprocess.run(["ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True)
        return "runner.emulator" in shown.stdout and str(directory.absolute()) in shown.stdout
    except OSError:
        return False
    names = any(word == "runner.emulator" or word.endswith("/runner/emulator/__main__.py") for word in words)
    if names:
        return str(directory.absolute()) in words
    # `runner emulator start --foreground` does not name the directory: the lock says whether a server is on it.
    return "--foreground" in words and _is_locked(directory)


def _is_locked(directory: Path) -> bool:
    """Return whether a server holds a state directory."""
    try:
        with (directory / "lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
