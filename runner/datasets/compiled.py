"""The compiled scanner of `native/`, where it is installed: what `prover` does, in one pass over the bytes.

It makes no Python object for a line that is good, and other threads run while it reads, so that threads can share a
file. It is a package of its own (`pip install ./native`, which needs Rust); without it `prover` does the same, in about
three times the time.
"""

from __future__ import annotations

from array import array
from itertools import accumulate, pairwise
from typing import Any

from runner.datasets import native, texts
from runner.datasets.block import Anchored, Block
from runner.datasets.examples import Format
from runner.datasets.images import MANY_IMAGES, MAX_PIXELS
from runner.datasets.values import PLACEHOLDERS


def _scanner(images: bool) -> Any:
    module = native.module()
    assert module is not None  # noqa: S101 - whoever asks has asked `native.is_installed` first
    return module.Scanner(
        images=images,
        many_images=MANY_IMAGES,
        max_pixels=MAX_PIXELS,
        placeholders=sorted(PLACEHOLDERS),
        tokens=list(texts.SPECIAL_TOKENS),
        secrets=list(texts.ANCHORS),
    )


class CompiledReshaper:
    """Writes lines of one documented format in another, texts as they are written; `native.is_installed` first.

    What `reshaping.Reshaper` does, for a block at a time.
    """

    def __init__(self, form: Format) -> None:
        self._form = form
        self._scanner = _scanner(True)

    def reshape(self, block: bytes) -> tuple[bytes, int, int, list[tuple[int, int, int, int]]]:
        """Return the lines written, the number of all lines and of those, and the lines that are not certainly good.

        Of each of these: its index, its start and its end in the block, and where it belongs among the lines written.
        Blank lines are neither.
        """
        made: tuple[bytes, int, int, list[tuple[int, int, int, int]]] = self._scanner.reshape(block, self._form)
        return made


class CompiledReader:
    """Reads blocks with the compiled scanner; `native.is_installed` first.

    Args:
        images: whether the base model takes images.
        contents: whether the contents of turns are needed, to count tokens or to find near repeats.
    """

    def __init__(self, *, images: bool, contents: bool) -> None:
        self._contents = contents
        self._scanner = _scanner(images)

    def scan(self, block: bytes) -> Block:
        """Sort the lines of a block."""
        found = self._scanner.read(block, self._contents)
        turns: list[int] = found.turns
        contents: list[str] = found.contents
        return Block(
            count=found.count,
            formats=dict(found.formats),
            index=found.index,
            turns=turns,
            written=found.written,
            images=found.images if found.marked else None,
            prompts=array("Q", found.prompts),
            wholes=array("Q", found.wholes),
            anchored=[Anchored(place, spoken, kinds) for place, kinds, spoken in found.anchored],
            doubtful=[(line, block[start:end]) for line, start, end in found.doubtful],
            answers=lambda: found.answers,
            conversations=lambda: [contents[start:end] for start, end in pairwise(accumulate(turns, initial=0))],
        )
