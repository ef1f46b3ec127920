"""The file check of another tuning service's client: `together` from PyPI, in an environment of its own.

`check_file` runs with its progress callback, as the client's command line calls it: it reads the file as text to see
that it is UTF-8, and once more, line by line: JSON, an object. No keys, roles, texts, images, repeats or lengths; the
first mistake ends it.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.goals import peers

_SERVE = """
import sys, time
from importlib.metadata import version
from together.lib.utils.files import check_file
print(version("together"), flush=True)
seen = []
for line in sys.stdin:
    start = time.process_time()
    report = check_file(line.rstrip("\\n"), progress_callback=seen.append)
    spent = time.process_time() - start
    assert report["is_check_passed"], report
    print(spent, len(seen), flush=True)
    seen.clear()
"""


class Peer:
    """A process that checks one file after the other; use it as a context manager."""

    def __enter__(self) -> Self:
        """Start it and read its version."""
        command = [str(peers.environment("together", peers.TOGETHER)), "-c", _SERVE]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.version = self._answer()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        self._process.communicate()

    def check(self, path: Path) -> float:
        """Return the CPU seconds of a check."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{path}\n")
        self._process.stdin.flush()
        spent, told = self._answer().split()
        if not int(told):
            raise RuntimeError("the client told no progress")
        return float(spent)

    def _answer(self) -> str:
        assert self._process.stdout is not None
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("the client's process has ended")
        return answer
