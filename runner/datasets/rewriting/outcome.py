"""The results for all rows of a dataset that was rewritten."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from runner.datasets.examples import Finding, Format
from runner.datasets.reading.opening import OpenedDataset
from runner.datasets.records.lines import Made
from runner.errors import DatasetError

T = TypeVar("T")
Progress = Callable[[int, int | None], None]
"""Called with the bytes read so far and the total, or with the bytes written so far and None."""
KEPT = 1000
"""Maximum number of rows that are named for each kind; all are counted."""


@dataclass(frozen=True, slots=True)
class Place:
    """The place of a row."""

    row: int
    """Row number, from 1; a heading does not count."""
    line: int = 0
    """Line number, from 1; 0 if the file has no lines."""

    def __str__(self) -> str:
        return f"line {self.line}" if self.line else f"row {self.row}"


@dataclass(frozen=True, slots=True)
class Change:
    """What was done to one row."""

    place: Place
    action: str
    """`changed`, `split` or `dropped`."""
    what: str

    @property
    def line(self) -> int:
        """Return the line, or the row if the file has no lines."""
        return self.place.line or self.place.row

    def to_json(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        return {"row": self.place.row, "line": self.place.line, "action": self.action, "what": self.what}


@dataclass(slots=True)
class Lost:
    """Values of one key that are not carried over."""

    count: int
    first: Place
    values: list[str]
    """Values of the first row, as JSON, shortened."""

    def to_json(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        return {"count": self.count, "row": self.first.row, "line": self.first.line, "values": self.values}


@dataclass(slots=True, kw_only=True)
class Outcome:
    """The account of a rewriting: each row that was read is written or omitted, with a description of each repair."""

    output: Path
    format: Format | None = None
    description: str = ""
    """What was read, in words."""
    notes: list[str] = field(default_factory=list)
    """What was decoded or assumed in order to read it."""
    read: int = 0
    rows: int = 0
    """Number of rows written."""
    written: int = 0
    """Size in bytes, before compression."""
    counts: Counter[str] = field(default_factory=Counter)
    """Maps each action to its number of rows."""
    changes: list[Change] = field(default_factory=list)
    """The first thousand."""
    lost: dict[str, Lost] = field(default_factory=dict)
    """Maps each JSON path, without its numbers, to the values that are not carried over."""

    @property
    def dropped(self) -> int:
        """Return the number of rows omitted."""
        return self.counts["dropped"]

    @property
    def unchanged(self) -> int:
        """Return the number of rows that were written without a repair."""
        return self.rows - self.counts["changed"] - self.counts["split"]

    @property
    def problems(self) -> list[Change]:
        """Return the omitted rows among `changes`."""
        return [change for change in self.changes if change.action == "dropped"]

    def note(self, place: Place, action: str, what: str) -> None:
        """Count what was done to a row, and keep it if there is space."""
        self.counts[action] += 1
        if self.counts[action] <= KEPT:
            self.changes.append(Change(place, action, what))

    def drop(self, place: Place, why: str) -> None:
        """Count a row that was read and is omitted."""
        self.read += 1
        self.note(place, "dropped", why)

    def watched(
        self, items: Iterable[T], opened: OpenedDataset, progress: Progress | None, *, every: int = 1000
    ) -> Iterator[T]:
        """Yield the rows of a dataset; report the progress repeatedly."""
        for number, item in enumerate(items, 1):
            yield item
            if progress is None or number % every:
                continue
            if opened.layout in {"excel", "parquet"}:  # these are not read from beginning to end
                progress(self.written, None)
            else:
                progress(opened.position(), opened.size)

    def write(self, place: Place, made: Made, target: Any, action: str = "changed") -> None:
        """Write a row, or omit it; count what was done to it and what is not carried over."""
        if not made.line:
            self.drop(place, made.problem)
            return
        target.write(made.line)
        self.written += len(made.line)
        self.read += 1
        self.rows += 1
        for loss in made.losses:
            self._lose(_without_numbers(loss.path), Lost(1, place, [loss.value]))
        if made.notes:
            self.note(place, action, "; ".join(dict.fromkeys(made.notes)))

    def add(self, other: Outcome, offset: int) -> None:
        """Add the account of the next part, which comes after `offset` lines."""

        def moved(place: Place) -> Place:
            return Place(place.row + offset, place.line + offset)

        self.read += other.read
        self.rows += other.rows
        self.written += other.written
        room = {action: KEPT - self.counts[action] for action in ("changed", "split", "dropped")}
        for change in other.changes:
            room[change.action] -= 1
            if room[change.action] >= 0:
                self.changes.append(replace(change, place=moved(change.place)))
        self.counts.update(other.counts)
        for key, lost in other.lost.items():
            self._lose(key, replace(lost, first=moved(lost.first)))

    def _lose(self, key: str, lost: Lost) -> None:
        known = self.lost.get(key)
        if known is not None:
            known.count += lost.count
            known.values += lost.values if known.first == lost.first else []
        elif len(self.lost) < KEPT:
            self.lost[key] = lost
        else:
            self.counts["more keys not carried over"] += lost.count

    def finish(self, name: str) -> None:
        """Raise DatasetError if nothing was written, so that no empty file is created."""
        if not self.rows:
            first = self.problems[:1]
            why = f": {first[0].place}: {first[0].what}" if first else ": it has no rows"
            raise self._failure(
                name, f"no example can be made of {name}{why}", "`runner data check` says what the file is"
            )

    def cut(self, name: str) -> DatasetError:
        """Return the error for a file that cannot be read after the row that was omitted last."""
        last = self.problems[-1]
        return self._failure(name, f"{name} cannot be read beyond {last.place}: {last.what}", "correct the file there")

    def _failure(self, name: str, why: str, hint: str) -> DatasetError:
        findings = [
            Finding(code="left-out", severity="error", file=name, line=change.line, message=change.what).to_json()
            for change in self.problems
        ]
        return DatasetError(f"nothing is written: {why}", findings=findings, hint=hint)

    def to_json(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        return {
            "output": str(self.output),
            "format": self.format,
            "description": self.description,
            "notes": self.notes,
            "read": self.read,
            "rows": self.rows,
            "unchanged": self.unchanged,
            "skipped": self.dropped,
            "counts": dict(sorted(self.counts.items())),
            "changes": [change.to_json() for change in self.changes],
            "notCarriedOver": [{"path": path, **lost.to_json()} for path, lost in self.lost.items()],
        }


def _without_numbers(path: str) -> str:
    """Return `messages[].weight` for `messages[3].weight`."""
    pieces = path.split("[")
    return "[".join([pieces[0], *[piece.lstrip("0123456789") for piece in pieces[1:]]])
