"""Digests of examples, for repeats and leakage: the same for the same content, however it is written down."""

from __future__ import annotations

import re
from collections.abc import Sequence

import xxhash

from runner.datasets.examples import Example, ImagePart, Message

_hash = xxhash.xxh3_64_intdigest

PART, TURN, IMAGE = "\x1f", "\x1e", "\x1c"
"""Separators of parts and turns, and what marks an image; a text with one of them has a finding of its own."""


def content(message: Message) -> str:
    """Return a message's parts as one text, with the addresses of its images."""
    return PART.join(IMAGE + part.uri if isinstance(part, ImagePart) else part.text for part in message.parts)


def digest(turns: Sequence[str], system: bool) -> tuple[int, int]:
    """Return 64-bit digests of everything but the last turn, and of everything.

    Args:
        turns: the content of each turn. Roles need no place here: those of a valid example follow from their number
            and from whether there is a system turn.
        system: whether the first turn is the system's.
    """
    prompt = turns[0] if len(turns) == 2 else TURN.join(turns[:-1])
    try:
        before = _hash(prompt.encode(), system)
        return before, _hash(turns[-1].encode(), before)
    except UnicodeEncodeError:
        before = _hash(prompt.encode("utf-8", "surrogatepass"), system)
        return before, _hash(turns[-1].encode("utf-8", "surrogatepass"), before)


def of_example(example: Example) -> tuple[int, int]:
    """Return the digests of an example: prompt, whole."""
    return digest([content(item) for item in example.messages], example.messages[0].role == "system")


_NOISE = re.compile(r"[\W_]+")


def normalised(turns: Sequence[str]) -> int:
    """Return a digest that examples share which differ only in case, white space and punctuation."""
    text = TURN.join(_NOISE.sub(" ", turn.casefold()).strip() for turn in turns)
    found: int = xxhash.xxh3_64_intdigest(text.encode("utf-8", "surrogatepass"))
    return found
