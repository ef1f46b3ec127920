"""The peak memory of a dataset check: `python -m benchmarks.dataset_memory` (needs 2 GB of temporary disk space).

Each value is the peak resident set of a separate process that reads the file and looks for duplicates.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.dataset_tokens import make_tokenizer
from benchmarks.goals.dataset_files import write

_CODE = """
import sys
from pathlib import Path
from runner.datasets.checking.repeats import repeats
from runner.datasets.checking.ranges import Settings, totals_of_range
path, tokenizer = Path(sys.argv[1]), Path(sys.argv[2]) if sys.argv[2] else None
totals = totals_of_range(path, 0, path.stat().st_size, Settings(ratio=0.25, limit=8192, name="t", tokenizer=tokenizer))
found = len(repeats(totals.wholes)) + len(repeats(totals.prompts))
# Not getrusage: its maximum includes the parent before it became this program.
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(totals.rows, found, int(peak.split()[1]) >> 10)
"""


def peak(path: Path, tokenizer: Path | None = None) -> str:
    """Return rows, duplicates and peak memory (MiB) of a check in a separate process."""
    command = [sys.executable, "-c", _CODE, str(path), str(tokenizer or "")]
    rows, found, size = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return f"{size} MB ({rows} rows, {found} repeats)"


def main() -> None:
    """Measure and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, nargs="+", default=[200, 2000])
    parser.add_argument("--kind", default="chat")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make_tokenizer(Path(folder, "tokenizer"))
        for size in options.megabytes:
            path = Path(folder, "t.jsonl")
            write(path, size << 20, options.kind)
            print(f"{options.kind}, {size} MB: {peak(path)}", flush=True)
            counted = peak(path, Path(folder, "tokenizer"))
            print(f"{options.kind}, {size} MB, tokens counted: {counted}", flush=True)
            path.unlink()


if __name__ == "__main__":
    main()
