"""The file check of another tuning service's client: `together` from PyPI, in its own environment.

`check_file` runs with its progress callback, as the client's command line calls it. It reads the file once to check
that it is UTF-8, and a second time to check that each line is a JSON object. It does not check keys, roles, texts,
images, duplicates or lengths, and it stops at the first error.
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
    """A process that checks files one after another; use it as a context manager."""

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
        """Return the CPU seconds of one check."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{path}\n")
        self._process.stdin.flush()
        spent, reports = self._answer().split()
        if not int(reports):
            raise RuntimeError("the client did not report progress")
        return float(spent)

    def _answer(self) -> str:
        assert self._process.stdout is not None
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("the client's process has ended")
        return answer
