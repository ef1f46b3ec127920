"""Figures: the measured values, the peers that they are compared with, and the goals."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

Direction = Literal["at least", "at most"]


@dataclass(frozen=True, slots=True)
class Spread:
    """Minimum, median and maximum of some rounds."""

    least: float
    median: float
    greatest: float
    rounds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the spread of one or more values."""
        return cls(min(values), statistics.median(values), max(values), len(values))


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound on a figure's ratio, or on its value if there is no peer."""

    direction: Direction
    bound: float

    def met(self, spread: Spread) -> bool:
        """Return whether the median is within the bound."""
        return spread.median >= self.bound if self.direction == "at least" else spread.median <= self.bound


def at_least(bound: float) -> Goal:
    """Return a goal with a lower bound."""
    return Goal("at least", bound)


def at_most(bound: float) -> Goal:
    """Return a goal with an upper bound."""
    return Goal("at most", bound)


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of the table."""

    subject: str
    name: str
    unit: str
    ours: Spread
    peer: str = ""
    theirs: Spread | None = None
    ratio: Spread | None = None
    """Our value divided by theirs, for each round."""
    goal: Goal | None = None
    met: bool | None = None
    quiet: bool = True
    """Whether no other program used the machine immediately before and after."""

    @classmethod
    def from_json(cls, body: dict[str, Any]) -> Figure:
        """Return the figure that `asdict` serialized."""
        spreads = {name: Spread(**body[name]) if body[name] else None for name in ("ours", "theirs", "ratio")}
        goal = Goal(**body["goal"]) if body["goal"] else None
        return cls(**{**body, **spreads, "goal": goal})


@dataclass(slots=True)
class Run:
    """One run of the command, with its size and its figures so far."""

    rounds: int
    size: Literal["full", "short", "tiny"]
    """`tiny` only tests that everything runs; its figures are meaningless."""
    folder: Path
    """A temporary folder that is deleted at the end."""
    figures: list[Figure] = field(default_factory=list)
    peers: dict[str, str] = field(default_factory=dict)
    """Maps the names of peers to their versions."""
    notes: dict[str, list[str]] = field(default_factory=dict)
    """Maps a subject to sentences that the document shows below its table."""
    subject: str = ""

    def compare(
        self,
        name: str,
        ours: Sequence[float],
        theirs: Sequence[float],
        *,
        unit: str,
        peer: str,
        goal: Goal | None = None,
    ) -> None:
        """Add a figure with a peer; the goal applies to the ratio of our value to theirs."""
        ratio = Spread.of([own / other for own, other in zip(ours, theirs, strict=True)])
        met = None if goal is None else goal.met(ratio)
        self._add(Figure(self.subject, name, unit, Spread.of(ours), peer, Spread.of(theirs), ratio, goal, met))

    def value(self, name: str, values: Sequence[float], *, unit: str, goal: Goal | None = None) -> None:
        """Add a figure without a peer."""
        spread = Spread.of(values)
        self._add(Figure(self.subject, name, unit, spread, goal=goal, met=None if goal is None else goal.met(spread)))

    def note(self, sentence: str) -> None:
        """Add a sentence to the notes of the current subject."""
        self.notes.setdefault(self.subject, []).append(sentence)

    def _add(self, figure: Figure) -> None:
        self.figures.append(figure)
        print("  " + line_of(figure), flush=True)


def line_of(figure: Figure) -> str:
    """Return a figure as one line of text."""
    shown = figure.ratio or figure.ours
    unit = "x" if figure.ratio else figure.unit
    text = f"{figure.name}: {number(shown.median)} {unit} ({number(shown.least)} to {number(shown.greatest)})"
    if figure.peer:
        text += f" compared with {figure.peer}"
    if figure.goal is not None:
        text += f", goal {figure.goal.direction} {number(figure.goal.bound)}: {'met' if figure.met else 'MISSED'}"
    return text


def number(value: float) -> str:
    """Return a number with three significant digits."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def to_json(figures: Sequence[Figure]) -> list[dict[str, Any]]:
    """Return figures as JSON values."""
    return [asdict(figure) for figure in figures]
