"""Tables that fit the terminal: first IDs are shortened, then columns are omitted, then each row becomes a block."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from runner.cli.text import padded, width

GAP = 2
_SHORTEST_ID = 6
"""Minimum length of shortened IDs, because a longer list may contain similar IDs."""


@dataclass(slots=True)
class Table:
    """Headings and cells, all as text."""

    headings: list[str]
    rows: list[list[str]]
    dropped: list[str] = field(default_factory=list)
    """Headings of the omitted columns."""

    @property
    def widths(self) -> list[int]:
        """Return the width of each column."""
        every = [self.headings, *self.rows]
        return [max(width(row[index]) for row in every) for index in range(len(self.headings))]

    @property
    def width(self) -> int:
        """Return the width of a line."""
        return sum(self.widths) + GAP * (len(self.headings) - 1)

    def line(
        self, row: Sequence[str], right: Collection[str], styles: Mapping[str, Callable[[str], str]] | None = None
    ) -> str:
        """Return one line.

        Args:
            row: its cells.
            right: headings of the columns to align right.
            styles: the styling of a column's cells, by heading.
        """
        parts = []
        for heading, cell, columns in zip(self.headings, row, self.widths, strict=True):
            text = padded(cell, columns, right=heading in right)
            parts.append((styles or {}).get(heading, str)(text))
        return (" " * GAP).join(parts).rstrip()

    def without(self, heading: str) -> Table:
        """Return the table without a column."""
        index = self.headings.index(heading)
        rows = [[*row[:index], *row[index + 1 :]] for row in self.rows]
        return Table([*self.headings[:index], *self.headings[index + 1 :]], rows, [*self.dropped, heading])


def fitted(table: Table, columns: float, *, ids: Collection[int], droppable: Sequence[str]) -> Table | None:
    """Return a table that fits the terminal; None if only blocks fit.

    Args:
        table: the complete table.
        columns: width of the terminal.
        ids: indices of the columns of IDs, which are shortened to prefixes that commands accept.
        droppable: headings of the columns that can be omitted, in this order.
    """
    if table.width <= columns:
        return table
    for index in ids:
        short = short_ids([row[index] for row in table.rows])
        for row, text in zip(table.rows, short, strict=True):
            row[index] = text
    for heading in droppable:
        if table.width <= columns:
            break
        table = table.without(heading)
    return table if table.width <= columns else None


def short_ids(ids: Sequence[str]) -> list[str]:
    """Return the shortest unique prefix of each ID, with at least six characters."""
    ordered = sorted(set(ids))
    lengths = {}
    for number, text in enumerate(ordered):
        shared = 0
        for other in ordered[max(0, number - 1) : number] + ordered[number + 1 : number + 2]:
            common = next((at for at, pair in enumerate(zip(text, other, strict=False)) if pair[0] != pair[1]), None)
            shared = max(shared, min(len(text), len(other)) if common is None else common)
        lengths[text] = max(_SHORTEST_ID, shared + 1)
    return [text[: lengths[text]] for text in ids]
