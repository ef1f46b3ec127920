"""A dataset of real text that every machine has: the documentation of the installed packages.

It contains readmes, licenses, metadata and docstrings, split at paragraphs and otherwise unchanged. The same packages
and seed produce the same file.
"""

from __future__ import annotations

import bisect
import json
import random
import re
import sysconfig
from itertools import accumulate
from pathlib import Path

_SUFFIXES = {".md", ".rst", ".txt"}
_MODULES = 8000
_DOCSTRING = re.compile(r'^[ \t]*[rR]?"""(.{80,}?)"""', re.DOTALL | re.MULTILINE)
_ADDRESS = "Write to jane.doe@example.com for more."
_NO_ADDRESS = "Write to jane.doe at example.com for it."


def documents() -> list[str]:
    """Return the texts of the installed packages: documentation files, then docstrings."""
    files: list[Path] = []
    modules: list[Path] = []
    for path in sorted(Path(sysconfig.get_paths()["purelib"]).rglob("*")):
        if path.suffix in _SUFFIXES or path.name == "METADATA":
            files.append(path)
        elif path.suffix == ".py":
            modules.append(path)
    step = max(1, len(modules) // _MODULES)
    texts = [_read(path) for path in files if path.is_file()]
    for path in modules[::step]:
        texts += _DOCSTRING.findall(_read(path))
    found = [text for text in texts if len(text.strip()) > 80]
    if sum(map(len, found)) < 1 << 20:
        raise SystemExit("less than a megabyte of documentation is installed")
    return found


def _read(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "ignore").replace("\0", "")


def write(path: Path, size: int, *, addressed: bool | None = None, seed: int = 5) -> None:
    """Write about `size` bytes of chats; every second line escapes all non-ASCII characters.

    Args:
        path: the JSON Lines file to write.
        size: the size in bytes.
        addressed: whether every third line gets a sentence with (True) or without (False) an email address; None adds
            no sentence.
        seed: the seed for the choice of texts.
    """
    draw = random.Random(seed)
    texts = documents()
    ends = list(accumulate(map(len, texts)))

    def passage() -> str:
        """Return text from a random place, with the length of a typical message."""
        place = draw.randrange(ends[-1])
        index = bisect.bisect_right(ends, place)
        text = texts[index]
        start = place - ends[index] + len(text)
        start = text.rfind("\n\n", 0, start) + 1
        length = int(draw.lognormvariate(6.4, 1.0)) + 40
        return text[start : start + length].strip() or text.strip()[:length]

    written = number = 0
    with path.open("wb") as target:
        while written < size:
            turns = [{"role": "system", "content": passage()[:200]}] if draw.random() < 0.3 else []
            for _ in range(draw.choice((1, 1, 1, 2, 3))):
                turns += [{"role": "user", "content": passage()}, {"role": "assistant", "content": passage()}]
            if addressed is not None and not number % 3:
                turns[-1]["content"] += "\n\n" + (_ADDRESS if addressed else _NO_ADDRESS)
            line = json.dumps({"messages": turns}, ensure_ascii=number % 2 == 0)
            written += target.write(line.encode() + b"\n")
            number += 1
