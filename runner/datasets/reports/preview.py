"""An example as the model sees it: the template around it, what is learned, where it would be cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from runner.datasets.examples import Example, Finding, ImagePart
from runner.datasets.reading.lines import raw_lines
from runner.datasets.reading.sources import Source, name_of
from runner.datasets.records.recognising import open_examples
from runner.datasets.rules.contents import contents_of
from runner.datasets.rules.parsing import parse_raw
from runner.datasets.tokens.counters import TokenCounter, TokenizerCounter, measure
from runner.errors import ConfigurationError, DatasetError


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A stretch of the rendered example."""

    text: str
    trained: bool
    beyond: bool = False
    """Behind the model's limit."""
    tokens: int | None = None
    """None where they are estimated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """One example."""

    line: int
    pieces: list[Piece]
    tokens: int
    trained_tokens: int | None
    """None where tokens are estimated."""
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
    """Return one example as the model sees it.

    Args:
        path: JSONL file, perhaps compressed or in a bucket.
        line: from 1.
        counter: with a tokenizer, the template is applied and tokens are exact; else the turns are shown as they are.
        limit: tokens of one example.

    Raises:
        ConfigurationError: there is no such line.
        DatasetError: the line is no example.
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
    reading = contents_of(parsed.example)
    characters = sum(map(len, reading.texts))
    tokens, trained = measure(counter, reading)
    exact = isinstance(counter, TokenizerCounter) and not reading.images
    if isinstance(counter, TokenizerCounter):
        pieces = _rendered(counter, reading.turns, reading.system, limit)
    else:
        pieces = _plain(parsed.example, (tokens / characters if characters else 0) or 1.0, limit)
    return Preview(
        line=line,
        pieces=pieces,
        tokens=tokens,
        trained_tokens=trained if counter.exact else None,
        limit=limit,
        exact=exact,
        findings=parsed.findings,
    )


def _rendered(counter: TokenizerCounter, turns: Sequence[str], system: bool, limit: int | None) -> list[Piece]:
    pieces: list[Piece] = []
    used = 0
    for text, trained in counter.template.pieces(turns, system):
        tokens = counter.encode(text)
        room = len(tokens) if limit is None else max(0, limit - used)
        used += len(tokens)
        if room >= len(tokens):
            pieces.append(Piece(text=text, trained=trained, tokens=len(tokens)))
            continue
        cut = tokens[room][1] if room else 0
        if cut:
            pieces.append(Piece(text=text[:cut], trained=trained, tokens=room))
        rest = len(tokens) - room
        pieces.append(Piece(text=text[cut:], trained=trained, beyond=True, tokens=rest))
    return pieces


def _plain(example: Example, ratio: float, limit: int | None) -> list[Piece]:
    pieces: list[Piece] = []
    room = None if limit is None else int(limit / ratio)
    for message in example.messages:
        pieces.append(Piece(text=f"{message.role}:\n", trained=False))
        text = (
            message.text
            + "".join(f"\n[image {part.uri[:60]}]" for part in message.parts if isinstance(part, ImagePart))
            + "\n"
        )
        trained = message.role == "assistant"
        if room is None or len(text) <= room:
            pieces.append(Piece(text=text, trained=trained))
            room = None if room is None else room - len(text)
            continue
        if room:
            pieces.append(Piece(text=text[:room], trained=trained))
        pieces.append(Piece(text=text[room:], trained=trained, beyond=True))
        room = 0
    return pieces
