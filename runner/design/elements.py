"""Elements of pages as text. Every text except `Html` is escaped, including control characters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

from runner.formatting import visible

Kind = Literal["good", "warn", "bad", ""]


class Html(str):
    """Text that is markup."""

    __slots__ = ()

    def __html__(self) -> Html:
        """Return it unchanged, for Jinja."""
        return self


Content = str | int | None
"""The allowed contents of an element; None is empty."""


def markup(content: Content) -> Html:
    """Return content as markup."""
    if content is None:
        return Html()
    return content if isinstance(content, Html) else Html(escape(visible(str(content), lines=True)))


def joined(parts: Iterable[Content]) -> Html:
    """Return the concatenation of contents."""
    return Html("".join(map(markup, parts)))


def element(name: str, *content: Content, **attributes: str | float | bool | None) -> Html:
    """Return an element.

    Args:
        name: its tag.
        content: its contents.
        attributes: by name, with `_` for `-` and after a Python keyword; None and False are omitted.
    """
    given = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{markup(str(value))}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    return Html(f"<{name}{given}>{joined(content)}</{name}>")


def chip(kind: str, word: str) -> Html:
    """Return a colored word."""
    return element("span", word, class_=f"chip {kind}")


@dataclass(frozen=True, slots=True)
class Tile:
    """A number with a title above and additional text below."""

    title: str
    number: str
    below: str = ""


def tiles(found: Iterable[Tile], label: str) -> Html:
    """Return numbers beside each other."""
    made = (
        element(
            "div", element("span", one.title), element("strong", one.number), element("span", one.below), class_="tile"
        )
        for one in found
    )
    return element("section", *made, class_="tiles", aria_label=label)


def table(
    headings: Sequence[str], rows: Iterable[Sequence[Content]], *, label: str, numbers: Iterable[int] = ()
) -> Html:
    """Return a table that scrolls horizontally if it is wide, and becomes blocks on a phone.

    Args:
        headings: of the columns; the first one names the row.
        rows: with a cell for each column.
        label: for screen readers.
        numbers: columns that contain numbers, from 0.
    """
    return grouped_table(headings, [("", rows)], label=label, numbers=numbers)


def grouped_table(
    headings: Sequence[str],
    groups: Iterable[tuple[Content, Iterable[Sequence[Content]]]],
    *,
    label: str,
    numbers: Iterable[int] = (),
) -> Html:
    """Return a table with groups of rows, each with a heading; see `table`."""
    right = frozenset(numbers)

    def kind(index: int) -> str | None:
        return "n" if index in right else None

    head = joined(element("th", title, scope="col", class_=kind(index)) for index, title in enumerate(headings))
    bodies = []
    for title, rows in groups:
        above = element("th", title, scope="rowgroup", colspan=len(headings)) if title else None
        made = [element("tr", above)] if above else []
        for first, *rest in rows:
            cells = (
                element("td", cell, data_label=headings[index] or None, class_=kind(index))
                for index, cell in enumerate(rest, 1)
            )
            made.append(element("tr", element("th", first, scope="row"), *cells))
        bodies.append(element("tbody", *made))
    return element(
        "div",
        element("table", element("thead", element("tr", head)), *bodies, class_="list"),
        class_="scroll",
        tabindex=0,
        role="region",
        aria_label=label,
    )


def bar(share: float) -> Html:
    """Return a bar for a share; screen readers skip it, because the number is beside it."""
    width = round(100 * min(max(share, 0.0), 1.0), 1)
    inner = element("rect", width=width, height=10)
    return element("svg", inner, viewBox="0 0 100 10", preserveAspectRatio="none", aria_hidden="true", class_="bar")


@dataclass(frozen=True, slots=True)
class Row:
    """One bar of several, with its number."""

    title: str
    count: int
    beyond: bool = False
    """Whether it exceeds the limit."""


def bars(rows: Sequence[Row], *, heads: tuple[str, str], limit: str = "") -> Html:
    """Return bars as a table.

    Args:
        rows: from top to bottom.
        heads: headings for titles and numbers.
        limit: text of a line above the first row that exceeds the limit; "" draws none.
    """
    most = max((row.count for row in rows), default=0) or 1
    made = []
    drawn = not limit
    for row in rows:
        if row.beyond and not drawn:
            drawn = True
            made.append(element("tr", element("th", limit, colspan=3, scope="rowgroup"), class_="limit"))
        cells = (element("td", bar(row.count / most)), element("td", f"{row.count:,}", class_="n"))
        made.append(
            element(
                "tr", element("th", row.title, scope="row", class_="n"), *cells, class_="beyond" if row.beyond else None
            )
        )
    if not drawn:
        made.append(element("tr", element("th", limit, colspan=3, scope="rowgroup"), class_="limit"))
    head = element("tr", *(element("th", title, scope="col") for title in (heads[0], "Share", heads[1])))
    return element("table", element("thead", head, class_="sr"), element("tbody", *made), class_="bars")


def folded(summary: str, *content: Content) -> Html:
    """Return collapsed details, which are expanded on paper."""
    return element("details", element("summary", summary), *content)
