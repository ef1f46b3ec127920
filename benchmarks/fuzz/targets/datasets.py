"""Dataset files: every function with files of all formats, plain, compressed and tables.

The first line of an input is the file's suffix. The compiled and the exact reader must have the same findings.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import random
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.fuzz.driver import Survive, Target
from benchmarks.fuzz.mutations import PIECES, broken
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

_PIECES = (
    *PIECES,
    *(b'"role":"user",', b'"prompt"', b"data:image/png;base64,", b"\x1f\x8b\x08\x00", b"\x28\xb5\x2f\xfd", b"gs://"),
)
_TABLES: dict[str, bytes] = {
    ".csv": b'prompt,completion\n"a ""b""",c\nd,"e\nf"\n',
    ".tsv": b"question\tanswer\nWhat?\tThat.\n",
    ".json": b'[{"instruction": "a", "output": "b"}, {"conversations": [{"from": "human", "value": "x"}]}]',
}
_FORMATS: tuple[Format, ...] = ("chat", "generate_content", "prompt_completion")
_MODELS = (None, "meta/llama4@llama-4-scout-17b-16e-instruct", "qwen/qwen3@qwen3-32b")
_SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst", *_TABLES)


class Datasets(Target):
    """Files of examples."""

    name = "datasets"

    def seeds(self) -> list[bytes]:
        """Return files of a few lines of each kind, and tables."""
        lines = all_lines()
        found = [b".jsonl\n" + b"\n".join(lines[start : start + 4]) for start in range(0, len(lines), 4)]
        found += [suffix.encode() + b"\n" + content for suffix, content in _TABLES.items()]
        return [*found, b".jsonl.gz\n" + gzip.compress(lines[0], 1)]

    def broken(self, draw: random.Random, data: bytes) -> bytes:
        """Return the file with other bytes, sometimes compressed."""
        suffix, _, content = data.partition(b"\n")
        content = broken(draw, content, draw.choice((1, 1, 3)), _PIECES)
        if suffix == b".jsonl" and draw.random() < 0.05:
            suffix, content = b".jsonl.gz", broken(draw, gzip.compress(content, 1), draw.choice((0, 1)))
        return suffix + b"\n" + content

    @contextlib.contextmanager
    def opened(self) -> Iterator[Survive]:
        """Use a folder."""
        with tempfile.TemporaryDirectory() as name:
            yield lambda data: _survive(data, Path(name))


def _survive(data: bytes, folder: Path) -> list[str]:
    """Run every function with a file; return codes of findings and errors."""
    head, _, content = data.partition(b"\n")
    suffix = head.decode("latin-1")
    path = folder / f"t{suffix if suffix in _SUFFIXES else '.jsonl'}"
    path.write_bytes(content)
    draw = random.Random(len(content))
    codes: list[str] = []

    def attempt(run: Callable[[], Any]) -> Any:
        try:
            return run()
        except RunnerError as error:
            codes.append(type(error).__name__)
            return None
        finally:
            for left in folder.iterdir():
                if left != path:
                    left.unlink()

    target = folder / f"out{draw.choice(('.jsonl', '.jsonl.gz'))}"
    model = draw.choice(_MODELS)
    chosen = find_model(model) if model else None
    report = attempt(lambda: check_files(path, model=chosen, near_duplicates=True, workers=1))
    if report is not None:
        codes += report.training.counts
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
    path.unlink()
    return codes


def _clean(path: Path) -> None:
    """Check that the written file has no errors except those of a whole file."""
    left = {finding.code for finding in check_files(path, workers=1).errors}
    assert left <= {"mixed-formats", "empty-file"}, left
