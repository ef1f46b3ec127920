"""The compiled scanner of `native/`, if it is installed: it proves lines to be good in one pass over the bytes.

It creates no Python objects for good lines, and other threads run while it reads, so that threads can share a
file. It is a separate package (`pip install ./native`, which requires Rust); without it, the exact
parser reads all lines.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from functools import cache
from itertools import accumulate, pairwise
from typing import Any

from runner.datasets.checking.blocks import Block
from runner.datasets.examples import Format
from runner.datasets.reading import native
from runner.datasets.rules import formats, texts


@cache
def _rules(images: bool) -> Any:
    """Return a scanner; preparing the rules takes longer than reading a small file."""
    module = native.module()
    assert module is not None  # noqa: S101 - callers check `native.is_installed` first
    return module.Scanner({**vars(formats), **vars(texts)}, images=images)


Reshaped = tuple[bytes, int, int, list[tuple[int, int, int, int]]]
"""Lines in another format, the number of all lines and of the converted ones, and the lines that are not certainly
good: for each, its index, its start and end in the block, and its place among the written lines. Blank lines are
neither."""


def reshaper(form: Format) -> Callable[[bytes | memoryview], Reshaped]:
    """Return a writer of a block's lines in another format; it keeps texts. It needs `native.is_installed`."""
    scanner = _rules(True).another()

    def reshape(block: bytes | memoryview) -> Reshaped:
        view = memoryview(block)
        found: Reshaped = scanner.reshape(view.obj, len(view), form)
        return found

    return reshape


class CompiledReader:
    """Reads blocks with the compiled scanner; needs `native.is_installed`.

    Args:
        images: whether the base model accepts images.
        contents: whether the contents of turns are needed, to count tokens or to find near duplicates.
    """

    def __init__(self, *, images: bool, contents: bool) -> None:
        self._contents = contents
        self._scanner = _rules(images).another()

    def scan(self, block: bytes | memoryview, before: int = 0) -> Block:
        """Classify the lines of a block that comes after `before` other lines."""
        view = memoryview(block)
        found, doubtful = self._scanner.read(view.obj, len(view), before, self._contents)
        turns: list[int] = found.turns
        contents: list[str] = found.contents
        return Block(
            count=found.count,
            rows=len(found.lines),
            formats=dict(found.formats),
            lines=found.lines,
            turns=turns,
            written=found.written,
            images=found.images if found.marked else None,
            prompts=array("Q", found.prompts),
            wholes=array("Q", found.wholes),
            findings=[],
            remarked=found.remarked,
            remarks=lambda: found.remarks,
            doubtful=doubtful,
            answers=lambda: found.answers,
            conversations=lambda: [contents[start:end] for start, end in pairwise(accumulate(turns, initial=0))],
        )
