"""Digests of examples, to find repeats and leakage: the same for the same content, regardless of the notation."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import accumulate

import xxhash

from runner.datasets.examples import Example, ImagePart, Message

_hash = xxhash.xxh3_64_intdigest

PART, TURN, IMAGE = "\x1f", "\x1e", "\x1c"
"""Separators of parts and turns, and the marker of an image; a text with one of them has a finding."""


def content_of(parts: Iterable[str | ImagePart]) -> str:
    """Return parts as one text, with a digest in place of each image; the address of an inline image is the image."""
    return PART.join(
        [
            IMAGE + xxhash.xxh3_128_hexdigest(_encoded(part.uri)) if isinstance(part, ImagePart) else part
            for part in parts
        ]
    )


def content(message: Message) -> str:
    """Return the same of a message."""
    return content_of(part if isinstance(part, ImagePart) else part.text for part in message.parts)


def turns_of(example: Example) -> list[str]:
    """Return the content of each turn; if their number is odd, the first is the system's."""
    return [content(message) for message in example.messages]


def digests(contents: list[bytes], turns: list[int]) -> tuple[list[int], list[int]]:
    """Return 64-bit digests of everything except the last turn of each example, and of everything.

    Args:
        contents: the content of the turns of all examples, one after another, in UTF-8. Roles are not needed:
            those of a valid example follow from the number of its turns.
        turns: number of turns of each example; an odd number includes a system turn.
    """
    ends = list(accumulate(turns))
    starts = [0, *ends][:-1]
    prompts = list(map(_hash, [contents[start] for start in starts], [count & 1 for count in turns]))
    if turns and max(turns) > 2:
        for place, count in enumerate(turns):
            if count > 2:
                digest = prompts[place]
                for turn in contents[starts[place] + 1 : ends[place] - 1]:
                    digest = _hash(turn, digest)
                prompts[place] = digest
    return prompts, list(map(_hash, [contents[end - 1] for end in ends], prompts))


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def of_example(example: Example) -> tuple[int, int]:
    """Return the digests of an example: prompt, whole."""
    turns = list(map(_encoded, turns_of(example)))
    (prompt,), (whole,) = digests(turns, [len(turns)])
    return prompt, whole


_NOISE = re.compile(r"[\W_]+")


def normalised(turns: Sequence[str]) -> int:
    """Return a digest that is the same for examples that differ only in case, white space and punctuation."""
    text = TURN.join(_NOISE.sub(" ", turn.casefold()).strip() for turn in turns)
    found: int = xxhash.xxh3_64_intdigest(_encoded(text))
    return found
