"""Break dataset files at random and check that nothing crashes, hangs or grows: `python -m benchmarks.fuzz_datasets`.

Each file has a few lines of one of the formats, plain or compressed, with some of its bytes changed. Every function
runs on it; what a function raises must be one of this package's errors. The two readers (fast and exact) must find the
same. With `--atheris` the bytes are chosen by coverage (needs the package atheris) instead of from the seed.
"""

from __future__ import annotations

import argparse
import gzip
import inspect
import json
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runner.catalog import find_model
from runner.datasets.checking.ranges import Settings, totals_of_range
from runner.datasets.checks import check_files
from runner.datasets.examples import Format
from runner.datasets.reports.html import render
from runner.datasets.reports.preview import preview_line
from runner.datasets.rewriting.converting import convert_file
from runner.datasets.rewriting.fixing import fix_file
from runner.datasets.rewriting.splitting import split_file
from runner.datasets.tokens.counters import RatioCounter
from runner.errors import RunnerError
from tests.datasets.test_fast_path import all_lines, same

SLOWEST_SECONDS = 2.0
"""CPU of one file of a few kilobytes."""
_PIECES = (
    *(b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"\\u00", b"\\ud800", b"\xff", b"\x00", b"\n", b"\r"),
    *(b"\xed\xa0\x80", b"\xef\xbb\xbf", b'"role":"user",', b'"prompt"', b"data:image/png;base64,", b"NaN", b"-1e999"),
    *(b"\x1f\x8b\x08\x00", b"\x28\xb5\x2f\xfd", b"gs://", b"\xc2\x85", b"\xe2\x80\xa8", b"[" * 100, b'{"a":' * 100),
)
_TABLES: dict[str, bytes] = {
    ".csv": b'prompt,completion\n"a ""b""",c\nd,"e\nf"\n',
    ".tsv": b"question\tanswer\nWhat?\tThat.\n",
    ".json": b'[{"instruction": "a", "output": "b"}, {"conversations": [{"from": "human", "value": "x"}]}]',
}
_FORMATS: tuple[Format, ...] = ("chat", "generate_content", "prompt_completion")
_MODELS = (find_model("meta/llama4@llama-4-scout-17b-16e-instruct"), find_model("qwen/qwen3@qwen3-32b"))


def broken(draw: random.Random, data: bytes, times: int) -> bytes:
    """Return data with some bytes inserted, deleted, changed, repeated or swapped."""
    made = bytearray(data)
    for _ in range(times):
        position = draw.randrange(len(made) + 1)
        kind = draw.randrange(6)
        if kind == 0:
            made[position:position] = draw.choice(_PIECES)
        elif kind == 1:
            del made[position : position + draw.randint(1, 20)]
        elif kind == 2 and position < len(made):
            made[position] = draw.randrange(256)
        elif kind == 3:
            made[position:position] = made[max(0, position - 40) : position]
        elif kind == 4 and position < len(made):
            made[position] ^= 1 << draw.randrange(8)
        else:
            made = made[:position]
    return bytes(made)


def file_of(draw: random.Random, lines: list[bytes]) -> tuple[str, bytes]:
    """Return the suffix and the bytes of a broken file."""
    if draw.random() < 0.1:
        suffix, data = draw.choice(list(_TABLES.items()))
        return suffix, broken(draw, data, draw.randint(1, 4))
    rows = [draw.choice(lines) for _ in range(draw.randint(1, 8))]
    rows = [broken(draw, row, draw.choice((0, 0, 1, 3))) for row in rows]
    data = b"\n".join(rows)
    if draw.random() < 0.2:
        data = broken(draw, data, draw.randint(1, 3))
    packing = draw.random()
    if packing < 0.1:
        return ".jsonl.gz", broken(draw, gzip.compress(data, 1), draw.choice((0, 1, 2)))
    if packing < 0.2:
        try:
            import zstandard
        except ImportError:
            return ".jsonl", data
        return ".jsonl.zst", broken(draw, zstandard.compress(data), draw.choice((0, 1, 2)))
    return ".jsonl", data


def survive(draw: random.Random, path: Path, folder: Path) -> Counter[str]:
    """Run every function on a file; return what was found. Raises what must not be raised."""
    counts: Counter[str] = Counter()
    target = folder / f"out{draw.choice(('.jsonl', '.jsonl.gz'))}"

    def attempt(run: Callable[[], Any]) -> Any:
        try:
            return run()
        except RunnerError as error:
            counts[type(error).__name__] += 1
            return None
        finally:
            for left in folder.iterdir():
                if left != path:
                    left.unlink()

    report = attempt(lambda: check_files(path, model=draw.choice((None, *_MODELS)), near_duplicates=True, workers=1))
    if report is not None:
        counts.update(report.training.counts)
        json.dumps(report.to_json(), ensure_ascii=False).encode()
        assert "\x1b" not in render(report)
    if path.suffix == ".jsonl":
        size = path.stat().st_size
        fast = totals_of_range(path, 0, size, Settings(ratio=0.25, limit=500))
        same(fast, totals_of_range(path, 0, size, Settings(ratio=0.25, limit=500, compiled=False)))
        attempt(lambda: split_file(path, folder / "a.jsonl", folder / "b.jsonl", share=0.2))
    attempt(lambda: preview_line(path, draw.randint(1, 4), RatioCounter(0.25), limit=20))
    attempt(lambda: _clean(fix_file(path, target).output))
    attempt(lambda: _clean(convert_file(path, target, draw.choice(_FORMATS)).output))
    return counts


def _clean(path: Path) -> None:
    """Check that what was written has no errors but those of a file as a whole."""
    left = {finding.code for finding in check_files(path, workers=1).errors}
    assert left <= {"mixed-formats", "empty-file"}, left


def _run(files: int, seed: int) -> int:
    draw = random.Random(seed)
    lines = all_lines()
    total: Counter[str] = Counter()
    slowest = 0.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(files):
            suffix, data = file_of(draw, lines)
            path = folder / f"t{suffix}"
            path.write_bytes(data)
            began = time.process_time()
            try:
                total.update(survive(draw, path, folder))
            except Exception:
                kept = Path(tempfile.gettempdir(), f"fuzz-{seed}-{number}{suffix}")
                kept.write_bytes(data)
                print(f"file {number} of seed {seed} is kept as {kept}", file=sys.stderr)
                raise
            slowest = max(slowest, time.process_time() - began)
            path.unlink()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{files} files of seed {seed} without a crash; slowest {slowest:.2f} s of CPU, peak memory {peak} MB")
    print(
        f"{len(total)} kinds of findings and errors: "
        + ", ".join(f"{key} {count}" for key, count in sorted(total.items()))
    )
    return int(slowest > SLOWEST_SECONDS)


def _functions() -> list[Any]:
    """Return the functions and methods of this package's dataset modules."""
    found = []
    for name, module in list(sys.modules.items()):
        if not name.startswith("runner.datasets"):
            continue
        for item in vars(module).values():
            members = vars(item).values() if inspect.isclass(item) else [item]
            found += [one for one in members if inspect.isfunction(one) and one.__module__ == name]
    return found


def _atheris(runs: int) -> None:
    import atheris  # type: ignore[import-not-found,import-untyped,unused-ignore]

    with tempfile.TemporaryDirectory() as name:
        folder, corpus = Path(name, "files"), Path(name, "corpus")
        folder.mkdir()
        corpus.mkdir()

        def one(data: bytes) -> None:
            provider = atheris.FuzzedDataProvider(data)
            suffix = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".csv", ".json")[provider.ConsumeIntInRange(0, 4)]
            content = provider.ConsumeBytes(1 << 14)
            if suffix == ".jsonl.gz" and provider.remaining_bytes() % 2:
                content = gzip.compress(content, 1)
            path = folder / f"t{suffix}"
            path.write_bytes(content)
            survive(random.Random(1), path, folder)
            path.unlink()

        for function in _functions():
            atheris.instrument_func(function)
        for number, line in enumerate(all_lines()):
            (corpus / f"{number}").write_bytes(line + b"\0")
        atheris.Setup(
            [
                sys.argv[0],
                f"-runs={runs}",
                "-max_len=16384",
                "-timeout=60",
                f"-artifact_prefix={tempfile.gettempdir()}/",
                str(corpus),
            ],
            one,
        )
        atheris.Fuzz()


def main() -> int:
    """Fuzz; exit 1 if a file takes too long, with a traceback if one crashes a function."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--atheris", action="store_true", help="let coverage choose the bytes")
    options = parser.parse_args()
    if options.atheris:
        _atheris(options.files)
        return 0
    return _run(options.files, options.seed)


if __name__ == "__main__":
    raise SystemExit(main())
