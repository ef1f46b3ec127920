"""Counts a chat template's own tokens once for each conversation shape, instead of in each example.

A control token splits a text before any other processing, so the tokens on both sides are independent. Of a
template's fixed texts, only those adjacent to a content are tokenized with it; the others become a single number.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PRE_TOKENIZERS = frozenset(
    {"Sequence", "Split", "ByteLevel", "Digits", "Punctuation", "Whitespace", "WhitespaceSplit"}
)
"""Pre-tokenizers that do not depend on the position of a piece in the text; `Metaspace` does."""


@dataclass(frozen=True, slots=True)
class Frame:
    """The tokens around the contents of a conversation of one shape."""

    total: int
    """Number of tokens that depend on no content."""
    trained: int
    """Number of trained tokens among them."""
    turns: tuple[tuple[str, str, bool], ...]
    """Text before and after each content, up to the next control token, and whether the content is trained."""


class Frames:
    """Creates frames with a tokenizer.

    Args:
        path: the tokenizer's `tokenizer.json`.
        count: counts the tokens of a text with the tokenizer.
    """

    def __init__(self, path: Path, count: Callable[[str], int]) -> None:
        self._count = count
        self._tokens = _splitting_tokens(json.loads(path.read_text("utf-8")))
        self._split = re.compile("|".join(map(re.escape, self._tokens))) if self._tokens else None

    def frame(self, segments: Sequence[tuple[Sequence[str], bool]]) -> Frame | None:
        """Return the frame of a shape, or None if a content is not between two control tokens.

        Args:
            segments: texts around the contents of each segment (one more than the segment has contents), and whether it
                is trained.
        """
        if self._split is None:
            return None
        total = learned = 0
        turns: list[tuple[str, str, bool]] = []
        for texts, trained in segments:
            known = self._known(texts)
            if known is None:
                return None
            number, around = known
            total += number
            learned += number if trained else 0
            turns += [(before, after, trained) for before, after in around]
        return Frame(total, learned, tuple(turns))

    def _known(self, texts: Sequence[str]) -> tuple[int, list[tuple[str, str]]] | None:
        """Return the number of a segment's tokens that depend on no content, and the texts adjacent to each content."""
        assert self._split is not None  # noqa: S101 - see above
        number = 0
        befores, afters = [], []
        for place, text in enumerate(texts):
            first, last = place == 0, place == len(texts) - 1
            found = list(self._split.finditer(text))
            number += len(found)
            if first and last:
                return self._count(text), []
            # The start and the end of a segment are boundaries of the tokenized text, so they need no control token.
            if not found and not (first or last):
                return None
            head = 0 if first else found[0].start() if found else len(text)
            tail = len(text) if last else found[-1].end() if found else 0
            if not first:
                afters.append(text[:head])
            if not last:
                befores.append(text[tail:])
            edges = [head, *(edge for match in found for edge in match.span()), tail]
            number += sum(
                self._count(text[start:end]) for start, end in zip(edges[::2], edges[1::2], strict=True) if start < end
            )
        return number, list(zip(befores, afters, strict=True))


def _splitting_tokens(tokenizer: dict[str, Any]) -> list[str]:
    """Return the control tokens that split a text, longest first; none if the tokenizer can look across them."""
    if (tokenizer.get("normalizer") or {"type": "NFC"})["type"] != "NFC":
        return []
    splits = tokenizer.get("pre_tokenizer")
    if not _types(splits) <= _PRE_TOKENIZERS or '"add_prefix_space": true' in json.dumps(splits):
        return []
    added = tokenizer.get("added_tokens", [])
    if any(token["lstrip"] or token["rstrip"] or token["single_word"] or token["normalized"] for token in added):
        return []
    names = sorted((token["content"] for token in added), key=len, reverse=True)
    # If tokens overlap or contain one another, the text beside a token could absorb a part of it.
    starts = {name[:size] for name in names for size in range(1, len(name) + 1)}
    if any(name[place:] in starts for name in names for place in range(1, len(name))):
        return []
    if any(name != other and name in other for name in names for other in names):
        return []
    return names


def _types(node: dict[str, Any] | None) -> set[str]:
    if node is None:
        return set()
    return {node["type"]}.union(*map(_types, node.get("pretokenizers", [])))
