"""The accuracy of `data stats --sample`: `python -m benchmarks.dataset_sample`.

Compares many samples of one file, each with its own seed, with the sum over all of its lines.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.goals.dataset_files import write
from runner.datasets.checking.ranges import Settings, totals_of_range
from runner.datasets.reports.report import Lengths
from runner.datasets.tokens.counters import RatioCounter, token_lengths
from runner.datasets.tokens.sampling import sample_tokens


def main() -> None:
    """Measure and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=40)
    parser.add_argument("--samples", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("chat", "prompt_completion"):
            path = Path(folder, "t.jsonl")
            write(path, options.megabytes << 20, kind)
            size = path.stat().st_size
            totals = totals_of_range(path, 0, size, Settings(ratio=0.25))
            truth = Lengths(token_lengths(totals.text_only.sizes, 0.25, None)).total
            start = time.process_time()
            samples = [sample_tokens(path, RatioCounter(0.25), seed=seed) for seed in range(options.samples)]
            spent = (time.process_time() - start) / options.samples
            inside = sum(abs(sample.tokens - truth) <= sample.margin for sample in samples)
            margin = statistics.fmean(sample.margin for sample in samples) / truth
            off = statistics.quantiles([abs(sample.tokens - truth) / truth for sample in samples], n=20)[-1]
            print(
                f"{kind}: margin {margin:.2%}, off by less than {off:.2%} in 95 of 100, the interval holds the truth in"
                f" {inside} of {options.samples}; {spent:.2f} s of CPU a sample",
                flush=True,
            )


if __name__ == "__main__":
    main()
