"""No line takes long to judge, whatever it is made of: the time grows with its length and not faster."""

import json
import time
from collections.abc import Callable

import pytest

from runner.datasets.checking.compiled import CompiledReader
from runner.datasets.checking.exact import ExactReader
from runner.datasets.checking.ranges import BlockReader
from runner.datasets.reading import native
from runner.datasets.rules import texts

SIZE = 1 << 19
MOST_SECONDS = 2.0
"""Of CPU time, for a line of half a million characters: what takes the square of its length takes minutes."""

PIECES = [
    *map(chr, range(0x20, 0x7F)),
    *(
        "\n",
        "\t",
        "\r\n",
        "\x01",
        "\x1c",
        "\x1e",
        "\x1f",
        "\x7f",
        "\x80",
        "\u200b",
        "\ufeff",
        "\ufffd",
        "é",
        "日",
        "😀",
    ),
    *("\\n", "\\n ", "\\nA", "\\r\\n", "\\nabla ", "a@", "@a", "a.", "a@a.", "%@", "a@b.c ", "nan ", "<|", "<|im_"),
    *(anchor for pattern in texts.PATTERNS for anchor in pattern.anchors),
    *(f"{anchor}a" for pattern in texts.PATTERNS for anchor in pattern.anchors),
    *("-----BEGIN ", "-----BEGIN RSA ", *texts.SPECIAL_TOKENS),
]

READERS: dict[str, Callable[[], BlockReader]] = {"exact": lambda: ExactReader(images=True)}
if native.is_installed():
    READERS["compiled"] = lambda: CompiledReader(images=True, contents=False)


def seconds(reader: BlockReader, line: bytes) -> float:
    start = time.process_time()
    reader.scan(line).remarks()
    return time.process_time() - start


@pytest.mark.parametrize("name", READERS)
def test_a_long_line_of_any_one_piece_is_judged_in_linear_time(name: str) -> None:
    reader = READERS[name]()
    slow = {}
    for piece in PIECES:
        for ascii_only in (False, True):
            record = {"prompt": piece * (SIZE // len(piece)), "completion": "b"}
            line = json.dumps(record, ensure_ascii=ascii_only).encode()
            took = seconds(reader, line)
            if took > MOST_SECONDS and (took := seconds(reader, line)) > MOST_SECONDS:  # once may be a busy machine's
                slow[piece, ascii_only] = took
    assert not slow
