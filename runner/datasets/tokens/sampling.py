"""Estimates the tokens of a file of any size in about a second, with a confidence interval.

Offsets are drawn at random, one in each of many equal parts of the file. The lines at these offsets are used, so that
the probability of a line is its share of the bytes. The mean of tokens per byte over such lines, times the bytes of the
file, is an unbiased estimate of all tokens. Its spread is small because long lines, which have most tokens, are drawn
most often.
"""

from __future__ import annotations

import math
import random
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from runner.datasets.reading.lines import MAX_LINE_BYTES, RawLine
from runner.datasets.rules.parsing import parse_raw
from runner.datasets.tokens.counters import TokenCounter, measure

DRAWS = 2000
_NORMAL_95 = 1.96


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSample:
    """An estimate of the tokens of a file. Over-length and broken lines count as zero, as in training."""

    tokens: int
    margin: int
    """Half the width of the 95% interval."""
    draws: int
    size: int
    """Size of the file in bytes."""

    def to_json(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        return {
            "tokens": self.tokens,
            "low95": max(0, self.tokens - self.margin),
            "high95": self.tokens + self.margin,
            "draws": self.draws,
            "bytes": self.size,
        }


def sample_tokens(
    path: Path, counter: TokenCounter, *, limit: int | None = None, draws: int = DRAWS, seed: int = 0
) -> TokenSample:
    """Estimate the tokens of one epoch.

    Args:
        path: plain JSONL file.
        counter: counts the tokens of an example.
        limit: maximum number of tokens of one example; the service drops longer ones.
        draws: number of lines to draw.
        seed: the same seed draws the same lines.
    """
    size = path.stat().st_size
    if not size:
        return TokenSample(tokens=0, margin=0, draws=0, size=0)
    draw = random.Random(seed)
    known: dict[int, float] = {}
    ratios: list[float] = []
    with path.open("rb") as stream:
        # One place in each of many equal parts of the file: no worse than places anywhere in the file, for which the
        # margin is calculated, and better if similar lines are adjacent.
        for offset in (min(size - 1, int((part + draw.random()) * size / draws)) for part in range(draws)):
            start = _line_start(stream, offset)
            if start not in known:
                stream.seek(start)
                line = stream.readline(MAX_LINE_BYTES + 2)
                known[start] = _tokens(line, counter, limit) / len(line)
            ratios.append(known[start])
    mean = statistics.fmean(ratios)
    deviation = statistics.stdev(ratios) if len(ratios) > 1 else 0.0
    margin = _NORMAL_95 * deviation / math.sqrt(len(ratios))
    return TokenSample(tokens=round(mean * size), margin=math.ceil(margin * size), draws=draws, size=size)


def _tokens(line: bytes, counter: TokenCounter, limit: int | None) -> int:
    parsed = parse_raw(RawLine(2, line.rstrip(b"\r\n")))
    if parsed is None or parsed.example is None:
        return 0
    tokens, _ = measure(counter, parsed.example)
    return 0 if limit is not None and tokens > limit else tokens


def _line_start(stream: BinaryIO, offset: int) -> int:
    """Return the beginning of the line that a byte is in; a line end belongs to the line before it."""
    step = 4096
    end = offset
    while end > 0:
        begin = max(0, end - step)
        stream.seek(begin)
        found = stream.read(end - begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin
        step *= 2
    return 0
