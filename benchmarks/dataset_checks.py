"""How fast datasets are checked, as ratios: `python -m benchmarks.dataset_checks`.

Every ratio is the median over several rounds in which both are run one after the other, in CPU time of this process, on
files made from a seed. Ratios hold on other machines, megabytes a second do not.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

import msgspec

from benchmarks.dataset_files import KINDS, write
from runner.datasets import native, scanning
from runner.datasets.shapes import Chat, GenerateText, PartsChat, PromptCompletion
from runner.datasets.summarise import Settings, summarise
from runner.datasets.workers import summarise_file

_SHAPES: dict[str, Any] = {
    "chat": Chat,
    "prompt_completion": PromptCompletion,
    "generate_content": GenerateText,
    "multimodal": PartsChat,
}


_STEP = 1 << 20


def _lines_with_progress(stream: TextIO, total: int, progress: Callable[[str, int], None], phase: str) -> Iterator[str]:
    """Yield lines; every few megabytes tell how many bytes they had, by encoding each again."""
    done = told = 0
    while line := stream.readline():
        done += len(line.encode(stream.encoding or "utf-8", stream.errors or "strict"))
        if line.endswith("\n") and not line.endswith("\r\n") and stream.newlines == "\r\n":
            done += 1
        yield line
        if done - told >= _STEP:
            told = done
            progress(phase, min(done, total))


def two_passes(path: Path, progress: Callable[[str, int], None]) -> int:
    """Do what the client of another tuning service (version 3.1) does before an upload, with progress told.

    It reads the file as text to see that it is UTF-8, and once more, line by line: JSON, an object, at least one line.
    No keys, roles, texts, images, repeats, lengths; the first mistake ends it.
    """
    total = path.stat().st_size
    with path.open(encoding="utf-8", newline="") as stream:
        for _ in enumerate(_lines_with_progress(stream, total, progress, "utf8")):
            pass
    count = 0
    with path.open(encoding="utf-8", newline="") as stream:
        for number, raw in enumerate(_lines_with_progress(stream, total, progress, "jsonl"), 1):
            line = raw.strip()
            if not line:
                continue
            if not isinstance(json.loads(line), dict):
                raise ValueError(f"line {number} is no object")
            count += 1
    if not count:
        raise ValueError("no lines")
    return count


def decode(path: Path, decoder: Callable[[bytes], Any]) -> None:
    """Decode each line."""
    with path.open("rb", buffering=1 << 20) as stream:
        for line in stream:
            decoder(line)


def ratio(one: Callable[[], Any], other: Callable[[], Any], rounds: int) -> float:
    """Return the median over rounds of the CPU time of one to that of another, which runs before and after it."""
    found = []
    one()
    for _ in range(rounds):
        times = []
        for run in (other, one, other):
            start = time.process_time()
            run()
            times.append(time.process_time() - start)
        found.append(2 * times[1] / (times[0] + times[2]))
    return statistics.median(found)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--kind", choices=KINDS, action="append", help="only this one")
    parser.add_argument("--processes", type=int, default=1000, help="MB of a file for two of them; 0: none")
    parser.add_argument("--python", action="store_true", help="without the compiled scanner")
    options = parser.parse_args()
    settings = Settings(ratio=0.25, limit=8192, name="t.jsonl", compiled=not options.python)
    if settings.compiled and native.is_installed():
        print("the compiled scanner reads")
    else:
        print(f"Python reads, {'stringzilla' if scanning.VECTORISED else 'bytes.count'} counts")
    with tempfile.TemporaryDirectory() as folder:
        for kind in options.kind or KINDS:
            path, bad = Path(folder, f"{kind}.jsonl"), Path(folder, f"{kind}-broken.jsonl")
            write(path, options.megabytes << 20, kind)
            write(bad, options.megabytes << 20, kind, broken=0.1)
            size, bad_size = path.stat().st_size, bad.stat().st_size
            decoder = msgspec.json.Decoder(_SHAPES[kind]).decode

            def check(path: Path = path, size: int = size) -> None:
                summarise(path, 0, size, settings)

            def check_bad(path: Path = bad, size: int = bad_size) -> None:
                summarise(path, 0, size, settings)

            def floor(path: Path = path, decoder: Callable[[bytes], Any] = decoder) -> None:
                decode(path, decoder)

            def loads(path: Path = path) -> None:
                decode(path, json.loads)

            def passes(path: Path = path) -> None:
                two_passes(path, lambda phase, done: None)

            start = time.process_time()
            check()
            print(f"{kind}: {size / (time.process_time() - start) / 1e6:.0f} MB/s a core")
            print(f"  {ratio(check, floor, options.rounds):.2f} x the time of decoding into types alone", flush=True)
            print(f"  {ratio(loads, check, options.rounds):.2f} x faster than json.loads of each line", flush=True)
            print(
                f"  {ratio(passes, check, options.rounds):.2f} x faster than two passes, for UTF-8 and for JSON",
                flush=True,
            )
            broken = ratio(check_bad, check, options.rounds) * size / bad_size
            print(f"  {broken:.2f} x the time with 10 % broken lines", end=", ")
            to_floor = ratio(check_bad, floor, options.rounds) * size / bad_size
            print(f"which is {to_floor:.2f} x decoding the same without them", flush=True)
        if options.processes:
            _processes(Path(folder, "t.jsonl"), options.processes, settings)


def _processes(path: Path, megabytes: int, settings: Settings) -> None:
    write(path, megabytes << 20, "chat")
    size = path.stat().st_size
    found = []
    for _ in range(max(3, min(9, 2000 // megabytes))):
        start = time.process_time()
        summarise(path, 0, size, settings)
        alone = time.process_time() - start
        before, own = resource.getrusage(resource.RUSAGE_CHILDREN), time.process_time()
        summarise_file(path, settings, workers=2)
        own = time.process_time() - own
        time.sleep(1)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found.append((after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime + own) / alone)
    shared = statistics.median(found)
    print(f"a file of {megabytes} MB shared by two: {shared:.2f} x the CPU time of one, start-up included")


if __name__ == "__main__":
    main()
