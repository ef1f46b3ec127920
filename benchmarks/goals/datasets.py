"""Compare the speed of dataset checks with that of msgspec's decoder and of another service's client.

Each file is checked, decoded into types line by line with msgspec, and checked by the client, alternately. All times
are CPU seconds of one thread. The file `documentation` contains real text (`dataset_documentation`). In `addresses`, a
third of the lines has an email address; the comparison file has a sentence without an address there. The other files
are generated (`dataset_files`), and compared with files in which 10% of the lines are invalid.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import msgspec

from benchmarks.goals import dataset_documentation
from benchmarks.goals.dataset_files import KINDS, write
from benchmarks.goals.dataset_peer import Peer
from benchmarks.goals.figures import Run, at_least, at_most
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


def measure(run: Run) -> None:
    """Check files of all kinds."""
    settings = Settings(ratio=0.25, limit=8192, name="t.jsonl", compiled=True)
    compiled = "The compiled scanner reads the files, unless the row says otherwise."
    exact_only = "The exact parser reads the files, because the compiled scanner is not installed."
    run.note(compiled if native.is_installed() else exact_only)
    made_up, real = {"full": (24, 60), "short": (12, 24), "tiny": (1, 1)}[run.size]
    with Peer() as peer:
        run.peers["together"] = peer.version.strip()
        for kind in {"full": (*_REAL, *KINDS), "short": ("documentation", "chat"), "tiny": ("chat",)}[run.size]:
            path, other = run.folder / "t.jsonl", run.folder / "other.jsonl"
            if kind in _REAL:
                dataset_documentation.write(path, real << 20, addressed=kind == "addresses")
                dataset_documentation.write(other, real << 20, addressed=False)
                others = {"documentation without email addresses": other} if kind == "addresses" else {}
            else:
                write(path, made_up << 20, kind)
                write(other, made_up << 20, kind, broken=0.1)
                others = {"10% invalid lines": other}
            _compare(run, kind, path, others, settings, peer)
    for kind in KINDS[:3] if run.size == "full" else ():
        path = run.folder / "t.jsonl"
        write(path, 12 << 20, kind)
        size, exact = path.stat().st_size, replace(settings, compiled=False)
        rates = [
            size / 1e6 / spent(lambda: totals_of_range(path, 0, size, exact))  # noqa: B023
            for _ in range(run.rounds)
        ]
        run.value(f"{kind}: throughput without the compiled scanner", rates, unit="MB/CPU s", goal=at_least(100))
    if run.size == "full":
        _share(run, run.folder / "t.jsonl", 400, settings)


def _compare(run: Run, kind: str, path: Path, others: dict[str, Path], settings: Settings, peer: Peer) -> None:
    """Compare the check of a file with the decoder, the client and the checks of other files."""
    title = "documentation with email addresses" if kind == "addresses" else kind

    def check(path: Path = path) -> Any:
        return totals_of_range(path, 0, path.stat().st_size, settings)

    runs: dict[str, Callable[[], float]] = {
        "check": lambda: spent(check),
        "floor": lambda: spent(lambda: decode(path, _SHAPES.get(kind, _Chat))),
        "peer": lambda: peer.check(path),
    }
    for name, other in others.items():
        runs[name] = lambda other=other: spent(lambda: check(other))  # type: ignore[misc]
    check()
    found = [{name: one() for name, one in runs.items()} for _ in range(run.rounds)]
    times = {name: [one[name] for one in found] for name in runs}
    run.compare(
        f"{title}: CPU time", times["check"], times["floor"], unit="CPU s", peer="msgspec's decoder", goal=at_most(1.3)
    )
    size = path.stat().st_size / 1e6
    rates = {name: [size / one for one in times[name]] for name in ("check", "peer")}
    run.compare(
        f"{title}: throughput",
        rates["check"],
        rates["peer"],
        unit="MB/CPU s",
        peer="the `together` client",
        goal=at_least(3),
    )
    for name, other in others.items():
        share = path.stat().st_size / other.stat().st_size
        broken = [one * share for one in times[name]]
        pair = (times["check"], broken) if kind in _REAL else (broken, times["check"])
        row = f"{title}: CPU time" if kind in _REAL else f"{title} with {name}: CPU time"
        run.compare(row, *pair, unit="CPU s", peer=name if kind in _REAL else "no invalid lines", goal=at_most(1.3))


def _share(run: Run, path: Path, megabytes: int, settings: Settings) -> None:
    write(path, megabytes << 20, "chat")
    size = path.stat().st_size
    both, alone = [], []
    for _ in range(run.rounds):
        alone.append(spent(lambda: totals_of_range(path, 0, size, settings)))
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        own = spent(lambda: totals_of_file(path, settings, workers=2))
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        both.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime + own)
    run.compare(
        f"chat, {megabytes} MB: CPU time with two threads",
        both,
        alone,
        unit="CPU s",
        peer="one thread",
        goal=at_most(1.15),
    )
