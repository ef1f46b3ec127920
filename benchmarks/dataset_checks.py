"""How fast datasets are checked: `python -m benchmarks.dataset_checks`.

Each file is checked, decoded into types line by line (the floor of the JSON library) and checked by another service's
client, one after the other, for several rounds. All times are CPU seconds of one thread, the best of the rounds. Ratios
hold on other machines, megabytes a second do not. The first run installs the client into an environment in the user's
cache.

The file `documentation` is real text, see `dataset_documentation`; in `addresses` a third of its lines has an e-mail
address, compared with a sentence without one. The others are made up, see `dataset_files`, and compared with what 10 %
broken lines make of them.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import msgspec

from benchmarks import dataset_documentation
from benchmarks.goals.dataset_files import KINDS, write
from benchmarks.dataset_peer import Peer
from runner.datasets.checking.ranges import Settings, totals_of_range
from runner.datasets.checking.workers import totals_of_file
from runner.datasets.reading import native

_REAL = ("documentation", "addresses")


class _Pair(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    prompt: str
    completion: str


class _Turn(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    role: Literal["system", "user", "assistant"]
    content: str


class _Chat(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    messages: list[_Turn]


class _Text(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    text: str


class _Content(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    parts: list[_Text]
    role: Literal["user", "assistant", "model"] | msgspec.UnsetType = msgspec.UNSET


class _Contents(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    contents: list[_Content]
    systemInstruction: _Content | msgspec.UnsetType = msgspec.UNSET  # noqa: N815 - the key's name


class _TextPart(msgspec.Struct, forbid_unknown_fields=True, gc=False, tag_field="type", tag="text"):
    text: str


class _Address(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    url: str


class _ImagePart(msgspec.Struct, forbid_unknown_fields=True, gc=False, tag_field="type", tag="image_url"):
    image_url: _Address


class _PartsTurn(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    role: Literal["system", "user", "assistant"]
    content: str | list[_TextPart | _ImagePart]


class _PartsChat(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    messages: list[_PartsTurn]


_SHAPES: dict[str, Any] = {"prompt_completion": _Pair, "generate_content": _Contents, "multimodal": _PartsChat}


def decode(path: Path, shape: Any) -> None:
    """Decode each line into a type."""
    decoder = msgspec.json.Decoder(shape).decode
    with path.open("rb", buffering=1 << 20) as stream:
        for line in stream:
            decoder(line)


def spent(run: Callable[[], Any]) -> float:
    """Return the CPU seconds of a call."""
    start = time.process_time()
    run()
    return time.process_time() - start


def best(runs: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Return the least of what each of some measurements gives, which are made by turns."""
    found = [{name: run() for name, run in runs.items()} for _ in range(rounds)]
    return {name: min(times[name] for times in found) for name in runs}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=200, help="of real text")
    parser.add_argument("--made-up-megabytes", type=int, default=24, help="of each other kind")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kind", choices=[*_REAL, *KINDS], action="append", help="only this one")
    parser.add_argument("--shared", type=int, default=1000, help="MB of a file for two threads; 0: none")
    parser.add_argument("--exact", action="store_true", help="without the compiled scanner")
    options = parser.parse_args()
    settings = Settings(ratio=0.25, limit=8192, name="t.jsonl", compiled=not options.exact)
    compiled = settings.compiled and native.is_installed()
    print("the compiled scanner reads" if compiled else "the exact parser reads", end="; ")
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder, Peer() as peer:
        print(f"the other client is together {peer.version.strip()}", flush=True)
        for kind in options.kind or [*_REAL, *KINDS]:
            path, other = Path(folder, "t.jsonl"), Path(folder, "other.jsonl")
            size = options.megabytes << 20
            if kind == "documentation":
                dataset_documentation.write(path, size)
                _measure(kind, path, {}, settings, peer, options.rounds)
            elif kind == "addresses":
                dataset_documentation.write(path, size, addressed=True)
                dataset_documentation.write(other, size, addressed=False)
                _measure(kind, path, {"without addresses": other}, settings, peer, options.rounds)
            else:
                write(path, options.made_up_megabytes << 20, kind)
                write(other, options.made_up_megabytes << 20, kind, broken=0.1)
                _measure(kind, path, {"10 % broken": other}, settings, peer, options.rounds)
        if options.shared:
            _shared(Path(folder, "t.jsonl"), options.shared, settings)


def _measure(kind: str, path: Path, others: dict[str, Path], settings: Settings, peer: Peer, rounds: int) -> None:
    """Print what the check of a file takes, and to that of others."""

    def check(path: Path = path) -> Any:
        return totals_of_range(path, 0, path.stat().st_size, settings)

    totals, size = check(), path.stat().st_size
    runs: dict[str, Callable[[], float]] = {
        "check": lambda: spent(check),
        "floor": lambda: spent(lambda: decode(path, _SHAPES.get(kind, _Chat))),
        "peer": lambda: peer.check(path),
    }
    for name, other in others.items():
        runs[name] = lambda other=other: spent(lambda: check(other))  # type: ignore[misc]
    times = best(runs, rounds)
    print(f"{kind}: {size / 1e6:.0f} MB, {totals.rows} lines, {sum(totals.counts.values())} findings")
    print("  " + ", ".join(f"{name} {time:.3f} s ({size / time / 1e6:.0f} MB/s)" for name, time in times.items()))
    print(f"  the check takes {times['check'] / times['floor']:.2f} x the floor", end=", ")
    print(f"is {times['peer'] / times['check']:.2f} x as fast as the other client", flush=True)
    for name, other in others.items():
        print(f"  {name}: {times[name] / times['check'] * size / other.stat().st_size:.2f} x its time", flush=True)


def _shared(path: Path, megabytes: int, settings: Settings) -> None:
    write(path, megabytes << 20, "chat")
    size = path.stat().st_size
    found = []
    for _ in range(max(3, min(9, 2000 // megabytes))):
        alone = spent(lambda: totals_of_range(path, 0, size, settings))
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        own = spent(lambda: totals_of_file(path, settings, workers=2))
        time.sleep(1)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found.append((after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime + own) / alone)
    shared = statistics.median(found)
    print(f"a file of {megabytes} MB shared by two: {shared:.2f} x the CPU time of one, start-up included")


if __name__ == "__main__":
    main()
