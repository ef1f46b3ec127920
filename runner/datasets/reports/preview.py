"""An example as the model receives it: with the template, what is trained, and where it would be cut off."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from runner.datasets.examples import Example, Finding, ImagePart
from runner.datasets.reading.lines import raw_lines
from runner.datasets.reading.sources import Source, name_of
from runner.datasets.records.recognising import open_examples
from runner.datasets.rules.contents import turns_of
from runner.datasets.rules.parsing import parse_raw
from runner.datasets.tokens.counters import TokenCounter, TokenizerCounter, measure
from runner.errors import ConfigurationError, DatasetError


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A section of the rendered example."""

    text: str
    trained: bool
    beyond: bool = False
    """Whether it is beyond the model's limit."""
    tokens: int | None = None
    """Number of tokens; None if they are estimated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """One example."""

    line: int
    pieces: list[Piece]
    tokens: int
    trained_tokens: int | None
    """Number of tokens; None if they are estimated."""
    limit: int | None
    exact: bool
    findings: tuple[Finding, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        return {
            "line": self.line,
            "tokens": self.tokens,
            "trainedTokens": self.trained_tokens,
            "maxSequenceLength": self.limit,
            "tokensExact": self.exact,
            "dropped": self.limit is not None and self.tokens > self.limit,
            "pieces": [
                {"text": piece.text, "trained": piece.trained, "beyondLimit": piece.beyond, "tokens": piece.tokens}
                for piece in self.pieces
            ],
            "findings": [finding.to_json() for finding in self.findings],
        }


def preview_line(path: Source, line: int, counter: TokenCounter, *, limit: int | None = None) -> Preview:
    """Return one example as the model receives it.

    Args:
        path: JSONL file, possibly compressed or in a bucket.
        line: line number, from 1.
        counter: with a tokenizer, the template is applied and tokens are exact; else the turns are shown unchanged.
        limit: maximum number of tokens of one example.

    Raises:
        ConfigurationError: the line does not exist.
        DatasetError: the line is not an example.
    """
    with open_examples(path) as opened:
        raw = next((raw for raw in raw_lines(opened.lines()) if raw.number == line), None)
    parsed = parse_raw(raw, file=name_of(path)) if raw is not None else None
    if parsed is None:
        what = "is blank" if raw is not None else "is not there"
        raise ConfigurationError(f"line {line} of {name_of(path)} {what}")
    if parsed.example is None:
        findings = [finding.to_json() for finding in parsed.findings]
        message = f"line {line} of {name_of(path)} is not an example: {parsed.findings[0].message}"
        raise DatasetError(message, findings=findings, hint="`runner data check` shows the reason")
    tokens, trained = measure(counter, parsed.example)
    exact = isinstance(counter, TokenizerCounter) and not parsed.example.images
    if isinstance(counter, TokenizerCounter):
        rendered = counter.template.pieces(turns_of(parsed.example))
        starts = (([start for _, start in counter.encode(text)], text, trained) for text, trained in rendered)
        pieces = _cut(starts, limit, counted=True)
    else:
        characters = sum(len(message.text) for message in parsed.example.messages)
        ratio = (tokens / characters if characters else 0) or 1.0
        pieces = _cut(_turns(parsed.example), None if limit is None else int(limit / ratio), counted=False)
    return Preview(
        line=line,
        pieces=pieces,
        tokens=tokens,
        trained_tokens=trained if counter.exact else None,
        limit=limit,
        exact=exact,
        findings=parsed.findings,
    )


def _cut(parts: Iterable[tuple[Sequence[int], str, bool]], limit: int | None, *, counted: bool) -> list[Piece]:
    """Return pieces of texts, split at the limit.

    Args:
        parts: the start of each text in units, the text, and whether it is trained.
        limit: maximum number of units of all texts; None means no limit.
        counted: whether units are tokens.
    """
    pieces: list[Piece] = []
    room = sys.maxsize if limit is None else limit
    for starts, text, trained in parts:
        count = min(room, len(starts))
        cut = len(text) if count == len(starts) else starts[count] if count else 0
        if cut or count == len(starts):
            pieces.append(Piece(text=text[:cut], trained=trained, tokens=count if counted else None))
        if count < len(starts):
            rest = len(starts) - count if counted else None
            pieces.append(Piece(text=text[cut:], trained=trained, beyond=True, tokens=rest))
        room -= count
    return pieces


def _turns(example: Example) -> Iterator[tuple[Sequence[int], str, bool]]:
    """Yield the turns unchanged, in characters; the names of roles, which a template would write, do not count."""
    for message in example.messages:
        yield (), f"{message.role}:\n", False
        images = [f"\n[image {part.uri[:60]}]" for part in message.parts if isinstance(part, ImagePart)]
        text = "".join([message.text, *images, "\n"])
        yield range(len(text)), text, message.role == "assistant"
