"""Hostile files: a finding, in bounded memory and time, never a crash."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from runner.datasets.checks import check_files
from tests.datasets.test_fast_path import all_lines, both

_MEASURE = """
import re, sys
from pathlib import Path
from runner.datasets.checks import check_files
report = check_files(Path(sys.argv[1]), workers=1)
# Not ru_maxrss: that starts at what the parent had when it forked.
peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024
print(",".join(sorted(report.training.counts)), peak)
"""


def measured(path: Path) -> tuple[str, int]:
    """Return the codes found, and the peak memory of the process in MB."""
    done = subprocess.run([sys.executable, "-c", _MEASURE, str(path)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    codes, _, peak = done.stdout.rpartition(" ")
    return codes, int(peak)


def test_a_line_of_a_gigabyte(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    with path.open("wb") as stream:
        stream.write(b'{"prompt": "a", "completion": "b"}\n')
        stream.truncate(1 << 30)  # sparse: takes no room on the disk
    codes, peak = measured(path)
    assert codes == "line-too-long"
    assert peak < 256


def test_a_long_line_that_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(b'{"prompt": "' + b"a b " * (8 << 20) + b'", "completion": "b"}\n')
    codes, peak = measured(path)
    assert codes == ""
    assert peak < 256


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'{"messages":['])
def test_deep_nesting(opening: bytes, tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(opening * 100_000 + b"\n" + b'{"prompt": "a", "completion": "b"}\n')
    report = check_files(path)
    assert [(finding.line, finding.severity) for finding in report.findings] == [(1, "error")]
    assert report.training.examples == 1


def test_a_merge_conflict_is_named(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    sides = ('{"prompt": "a", "completion": "b"}', '{"prompt": "a", "completion": "c"}')
    path.write_text(f"<<<<<<< HEAD\n{sides[0]}\n=======\n{sides[1]}\n>>>>>>> theirs\n")
    found = check_files(path).errors
    assert [(finding.line, finding.message) for finding in found] == [
        (line, "a merge conflict that nobody has resolved") for line in (1, 3, 5)
    ]


def test_odd_names_and_links(tmp_path: Path) -> None:
    path = tmp_path / "\x1b[31m\n.jsonl"
    path.write_text('{"prompt": "", "completion": "b"}\n')
    link = tmp_path / "link.jsonl"
    link.symlink_to(path)
    assert check_files(path).training.counts == check_files(link).training.counts == {"empty-text": 1}


def test_20000_broken_lines_are_survived_alike(tmp_path: Path) -> None:
    draw = random.Random(20_000)
    lines = all_lines()
    pieces = [
        b'"',
        b"\\",
        b"{",
        b"}",
        b"[",
        b",",
        b":",
        b"\\u00",
        b"\xff",
        b"\x00",
        b"role",
        b"\xed\xa0\x80",
        b"\xef\xbb\xbf",
        b"\r",
    ]
    broken = []
    for _ in range(20_000):
        line = bytearray(draw.choice(lines))
        for _ in range(draw.randint(1, 4)):
            position = draw.randrange(len(line) + 1)
            if draw.random() < 0.4:
                line[position:position] = draw.choice(pieces)
            elif draw.random() < 0.5:
                del line[position : position + draw.randint(1, 6)]
            else:
                line[position : position + 1] = bytes([draw.randrange(256)])
        broken.append(bytes(line))
    summary = both(tmp_path / "t.jsonl", b"\n".join(broken))
    assert summary.error_count > 10_000
