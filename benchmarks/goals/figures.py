"""Figures: what was measured, of what, against whom, and whether that is the goal."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

Direction = Literal["at least", "at most"]


@dataclass(frozen=True, slots=True)
class Spread:
    """Least, median and greatest of some rounds."""

    least: float
    median: float
    greatest: float
    rounds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the spread of values, of which there is at least one."""
        return cls(min(values), statistics.median(values), max(values), len(values))


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound of a figure's ratio, or of its value where there is no peer."""

    direction: Direction
    bound: float

    def met(self, spread: Spread) -> bool:
        """Tell whether the median keeps the bound."""
        return spread.median >= self.bound if self.direction == "at least" else spread.median <= self.bound


def at_least(bound: float) -> Goal:
    """Return the goal of reaching a bound."""
    return Goal("at least", bound)


def at_most(bound: float) -> Goal:
    """Return the goal of not exceeding a bound."""
    return Goal("at most", bound)


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table."""

    subject: str
    name: str
    unit: str
    ours: Spread
    peer: str = ""
    theirs: Spread | None = None
    ratio: Spread | None = None
    """Ours to theirs, round by round: what ran one after the other is compared."""
    goal: Goal | None = None
    met: bool | None = None
    quiet: bool = True
    """Whether nothing else used the machine just before and just after."""

    @classmethod
    def from_json(cls, body: dict[str, Any]) -> Figure:
        """Read what `asdict` wrote."""
        spreads = {name: Spread(**body[name]) if body[name] else None for name in ("ours", "theirs", "ratio")}
        goal = Goal(**body["goal"]) if body["goal"] else None
        return cls(**{**body, **spreads, "goal": goal})


@dataclass(slots=True)
class Run:
    """One run of the command: its size, and the figures so far."""

    rounds: int
    size: Literal["full", "short", "tiny"]
    """`tiny` shows that everything runs; its figures mean nothing."""
    folder: Path
    """Scratch, deleted at the end."""
    figures: list[Figure] = field(default_factory=list)
    peers: dict[str, str] = field(default_factory=dict)
    """Name to version."""
    notes: dict[str, list[str]] = field(default_factory=dict)
    """Subject to sentences that the document shows below its table."""
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
        """Add a figure that has a peer; the goal is one of the ratio of ours to theirs."""
        ratio = Spread.of([own / other for own, other in zip(ours, theirs, strict=True)])
        met = None if goal is None else goal.met(ratio)
        self._add(Figure(self.subject, name, unit, Spread.of(ours), peer, Spread.of(theirs), ratio, goal, met))

    def value(self, name: str, values: Sequence[float], *, unit: str, goal: Goal | None = None) -> None:
        """Add a figure that stands alone."""
        spread = Spread.of(values)
        self._add(Figure(self.subject, name, unit, spread, goal=goal, met=None if goal is None else goal.met(spread)))

    def note(self, sentence: str) -> None:
        """Add a sentence to the subject."""
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
        text += f" of {figure.peer}"
    if figure.goal is not None:
        text += f", goal {figure.goal.direction} {number(figure.goal.bound)}: {'met' if figure.met else 'MISSED'}"
    return text


def number(value: float) -> str:
    """Return a number with three significant digits."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def to_json(figures: Sequence[Figure]) -> list[dict[str, Any]]:
    """Return figures as JSON values."""
    return [asdict(figure) for figure in figures]
