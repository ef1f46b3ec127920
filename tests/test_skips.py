"""Where every test is to run, a skip fails unless its reason is listed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.skips import ALLOWED

ROOT = Path(__file__).parents[1]
TESTS = """
import pytest

@pytest.mark.skipif(True, reason={allowed!r})
def test_allowed(): ...

@pytest.mark.skipif(True, reason="needs a program")
def test_marked(): ...

def test_inside():
    pytest.skip("nothing can be mounted here")

@pytest.mark.xfail(reason="known")
def test_expected(): raise AssertionError

def test_plain(): ...
"""


@pytest.mark.parametrize("options", [[], ["--every-test"], ["--every-test", "-n", "2"]], ids=["any", "every", "two"])
def test_what_is_skipped(options: list[str], tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text(TESTS.format(allowed=next(iter(ALLOWED))))
    (tmp_path / "test_file.py").write_text("import pytest\npytest.importorskip('no_such_package')\n")
    command = [sys.executable, "-m", "pytest", "-p", "tests.skips", "-p", "no:cacheprovider", "-c", "/dev/null"]
    done = subprocess.run(
        [*command, "--rootdir", str(tmp_path), "--continue-on-collection-errors", *options, str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    summary = {text: int(number) for number, text in re.findall(r"(\d+) (\w+)", done.stdout.splitlines()[-1])}
    expected = (
        {"passed": 1, "xfailed": 1, "skipped": 1, "failed": 1, "errors": 2}
        if options
        else {"passed": 1, "xfailed": 1, "skipped": 4}
    )
    assert {
        key: number for key, number in summary.items() if key in {"passed", "xfailed", "skipped", "failed", "errors"}
    } == expected
    assert done.returncode == bool(options)
    # With CI=true pytest repeats messages in its summary.
    assert ("for a reason that tests/skips.py does not list: needs a program" in done.stdout) == bool(options)
