"""A real pseudo-terminal of a chosen width, and transcripts of it that read the same every time."""

from __future__ import annotations

import difflib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping
from pathlib import Path

FOLDER = Path(__file__).parent / "transcripts"
_UPDATE = "UPDATE_TRANSCRIPTS"
"""Variable that writes the transcripts anew: look at the difference before you commit it."""

_VARYING = (
    (r"\x1b\[[0-9;?]*[a-zA-Z]", ""),
    (r"127\.0\.0\.1:\d+", "127.0.0.1:PORT"),
    (r"\bomt-[0-9a-z-]+", "omt-ENDPOINT"),
    (r"\b\d{15,20}\b", "1234567890123456789"),
    (r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|\+00:00| UTC)?", "TIME"),
    (r"\b\d+ (?:d|h|min|s)(?: \d+ (?:h|min|s))?(?= ago|\b)", "SOME s"),
    (r"^(omt-ENDPOINT .*?)\$0\.\d+", r"\1$SPENT"),
    (r"^\d{6,}(?=  )", "123456"),
    (r"loss \d+\.\d+", "loss N.NNNN"),
    (r"\btour-[a-z2-7]{10}\b", "tour-FINGERPRINT"),
    (r"runner-fingerprint=[a-z2-7]+", "runner-fingerprint=FINGERPRINT"),
    (r"pid +\d+", "pid  PID"),
)
_DROPPED = (
    r"^ {2}\d+% · ",  # a forecast, which comes after some seconds
    r"^\d{6,19}  (?:pending|queued|running)",  # states that a look may miss
    r"^ {2}(?:checkpoint|waiting|validating)",
    r"^(?:upload|download) .*: .* of ",
)


class Terminal:
    """Runs command lines in a pseudo-terminal and keeps what a person would have seen."""

    def __init__(self, columns: int, folder: Path, variables: Mapping[str, str]) -> None:
        self.columns = columns
        self.folder = folder
        self.variables = {
            **{name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES", "NO_COLOR"}},
            "TERM": "dumb",
            "LC_ALL": "C.UTF-8",
            "PATH": f"{self._program(folder)}:{os.environ['PATH']}",
            **variables,
        }
        self.seen: list[str] = []

    @staticmethod
    def _program(folder: Path) -> Path:
        """Make `runner` a program of the PATH, as an installation does."""
        place = folder.parent / "bin"
        place.mkdir(exist_ok=True)
        script = place / "runner"
        script.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m runner "$@"\n')
        script.chmod(0o755)
        return place

    def run(self, line: str, *, typed: str = "", timeout: float = 100.0) -> int:
        """Run a line of a shell, type what is given at the first question, and return the exit code."""
        main, other = pty.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 40, self.columns, 0, 0))
        attributes = termios.tcgetattr(other)
        attributes[3] &= ~termios.ECHO
        termios.tcsetattr(other, termios.TCSANOW, attributes)
        child = subprocess.Popen(
            ["bash", "-c", f'{line}\nstatus=$?; pwd > "$TERMINAL_PWD"; exit $status'],
            stdin=other,
            stdout=other,
            stderr=other,
            cwd=self.folder,
            env={**self.variables, "TERMINAL_PWD": str(self.folder.parent / "pwd")},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(other)
        output, left = "", typed
        deadline = time.monotonic() + timeout
        while child.poll() is None or select.select([main], [], [], 0)[0]:
            assert time.monotonic() < deadline, output
            if not select.select([main], [], [], 0.1)[0]:
                continue
            try:
                output += os.read(main, 65536).decode(errors="replace")
            except OSError:
                break
            if left and re.search(r"(\w: |[\])]: |\? )$", output):
                first, _, left = left.partition("\n")
                os.write(main, f"{first}\n".encode())
                output += f"{first}\n"
        os.close(main)
        code = child.wait()
        self.folder = Path((self.folder.parent / "pwd").read_text().strip()) if "cd " in line else self.folder
        self.seen.append(f"$ {line}\n{output}" + (f"[exit code {code}]\n" if code else ""))
        return code

    def transcript(self, *, home: Path) -> str:
        """Return everything, with what differs from run to run replaced."""
        text = "\n".join(self.seen).replace("\r\n", "\n").replace("\r", "\n").replace(str(home), "~")
        for pattern, replacement in _VARYING:
            text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
        lines: list[str] = []
        for line in text.splitlines():
            if any(re.search(pattern, line) for pattern in _DROPPED):
                continue
            if "SOME s" in line or re.match(r"^id {2,}\w+ {2,}\w+", line):
                line = re.sub(r" {2,}", "  ", line)  # columns are as wide as what varies
            if re.match(r"^  step \d+", line):
                line = "  step …"
            if lines and line == lines[-1] == "  step …":
                continue
            lines.append(line.rstrip())
        return "\n".join(lines) + "\n"


def check(name: str, text: str) -> None:
    """Compare a transcript with the one that is kept."""
    path = FOLDER / f"{name}.txt"
    if os.environ.get(_UPDATE):
        FOLDER.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
    kept = path.read_text("utf-8") if path.exists() else ""
    difference = "\n".join(difflib.unified_diff(kept.splitlines(), text.splitlines(), "kept", "now", lineterm=""))
    assert text == kept, f"{path}: look, then {_UPDATE}=1\n{difference}"


def widest(text: str) -> int:
    """Return the width of the widest line that a command wrote: not of what was typed, nor of a text that wraps."""
    return max((len(line) for line in text.splitlines() if not line.startswith("$")), default=0)
