"""The check of a dataset as a page: as a separate file, or as a part of another page."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from runner.datasets.examples import Finding
from runner.datasets.reading.lines import raw_lines
from runner.datasets.reading.sources import name_of
from runner.datasets.records.recognising import open_examples
from runner.datasets.reports.histograms import histogram, offers
from runner.datasets.reports.preview import Preview
from runner.datasets.reports.report import FileReport, Report
from runner.design import document
from runner.design.elements import (
    Content,
    Html,
    Row,
    Tile,
    bars,
    chip,
    element,
    folded,
    grouped_table,
    joined,
    table,
    tiles,
)
from runner.errors import RunnerError
from runner.prices import amount
from runner.wording import counted, shortened

_SHOWN_OF_A_CODE = 20
_WORST = 12
"""Maximum number of examples shown with their text."""
_EXCERPT = 400
"""Maximum characters of each example."""
_SHOWN_OF_A_PIECE = 3000
"""Maximum characters of each piece."""
_MOST_TURNS = 20
_PRIVATE = frozenset({"secret", "personal-data"})


def render(report: Report, previews: Sequence[Preview] = ()) -> str:
    """Return the page as a file."""
    name = name_of(report.training.path)
    title = element("h1", element("bdi", name))
    rest = folded("What one epoch would cost on each model", _prices(report))
    return document.page(name, title, verdict(report), sections(report, previews), rest)


def verdict(report: Report) -> Html:
    """Return whether the service accepts the dataset, with the time and the settings of the check."""
    errors, warnings = counted(report.error_count, "error"), counted(report.warning_count, "warning")
    if report.error_count:
        box = _verdict("bad", "The service would refuse this", f"{errors}, {warnings}: correct the lines below.")
    elif report.warning_count:
        box = _verdict("warn", "Ready to tune", f"No errors, {warnings} to look at.")
    else:
        box = _verdict("good", "Ready to tune", "Nothing is wrong with it.")
    target = f"Checked for {report.model}, {report.mode}," if report.model else "Checked for what holds of every model"
    settings = [f"at most {report.max_sequence_length:,} tokens an example"] if report.max_sequence_length else []
    settings += [f"tokens {report.token_count}"] if report.token_count else []
    return joined((box, document.made(target, when=time.time(), settings=", ".join(settings))))


def _verdict(kind: str, words: str, sentence: str) -> Html:
    inner = element("p", element("strong", words), " ", sentence)
    return element("section", inner, class_=f"notice verdict {kind}", aria_label="Verdict")


def sections(report: Report, previews: Sequence[Preview] = ()) -> Html:
    """Return everything below the verdict: numbers, findings, lengths against the limit, examples."""
    parts = [tiles(_numbers(report), "Numbers"), _findings(report)]
    for file in report.files:
        parts += [_lengths(report, file), _turns(file)]
    parts += [_previews(previews), _worst(report)]
    return joined(parts)


def _numbers(report: Report) -> list[Tile]:
    file = report.training
    lengths = file.tokens.to_json()
    used = [
        Tile(f"{item.role.capitalize()}: examples used", f"{item.kept:,}", f"of {_thousands(item.lines, 'line')}")
        for item in report.files
    ]
    how = "counted" if report.tokens_exact else "estimated from characters"
    below = f"median {lengths.get('median', 0):,}"
    if report.max_sequence_length:
        below = f"limit {report.max_sequence_length:,}"
        below += f"; {file.over_length:,} longer left out" if file.over_length else ""
    return [
        *used,
        Tile("Tokens of one epoch", f"{file.tokens.total:,}", how),
        Tile("Longest used", f"{lengths.get('max', 0):,}", below),
    ]


def _thousands(count: int, noun: str) -> str:
    return counted(count, noun) if count < 1000 else f"{count:,} {noun}s"


def _lengths(report: Report, file: FileReport) -> Html:
    limit = report.max_sequence_length
    found = histogram(report, file)
    if not found:
        return Html()
    rows = [
        Row(f"{bar.above + 1:,} to {bar.up_to:,}", bar.count, limit is not None and bar.above >= limit) for bar in found
    ]
    how = "counted" if report.tokens_exact else "estimated"
    words = f"{limit:,} tokens: the limit. Longer examples are not used." if limit else ""
    title = element("h2", "Tokens of an example in ", element("bdi", name_of(file.path)), f" ({how})")
    return element("section", title, bars(rows, heads=("Tokens", "Examples"), limit=words), class_="card")


def _turns(file: FileReport) -> Html:
    if len(file.turns) < 2:
        return Html()
    found = sorted(file.turns.items())
    rows = [Row(counted(turns, "turn"), count) for turns, count in found[:_MOST_TURNS]]
    more = sum(count for _, count in found[_MOST_TURNS:])
    rows += [Row("more", more)] if more else []
    title = element("h2", "Turns of an example in ", element("bdi", name_of(file.path)))
    return element("section", title, bars(rows, heads=("Turns", "Examples")), class_="card")


def _findings(report: Report) -> Html:
    groups: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for finding in [*report.errors, *report.warnings]:
        groups[finding.severity, finding.code].append(finding)
    if not groups:
        return Html()
    body: list[tuple[Content, list[list[Content]]]] = []
    for (severity, code), found in groups.items():
        count = max(len(found), sum(file.counts.get(code, 0) for file in report.files))
        kind = chip("bad" if severity == "error" else "waiting", severity)
        title = joined((kind, " ", element("code", code), " ", element("span", f"{count:,}", class_="dim")))
        rows: list[list[Content]] = [
            [element("code", item.place), item.message, item.fix] for item in found[:_SHOWN_OF_A_CODE]
        ]
        if count > len(rows):
            rows.append([element("span", f"and {count - len(rows):,} more", class_="dim"), None, None])
        body.append((title, rows))
    return joined((element("h2", "Findings"), grouped_table(["Line", "Problem", "How to fix"], body, label="Findings")))


def _previews(previews: Sequence[Preview]) -> Html:
    if not previews:
        return Html()
    parts = [
        element("h2", "First rows as the model sees them"),
        element("p", "What is underlined in green is learned.", class_="dim"),
    ]
    for row in previews:
        parts.append(element("h3", f"Line {row.line}: {'' if row.exact else 'about '}{counted(row.tokens, 'token')}"))
        pieces = (
            element("pre", shortened(piece.text, _SHOWN_OF_A_PIECE), class_=_marks(piece.trained, piece.beyond))
            for piece in row.pieces
        )
        parts.append(element("div", *pieces, class_="sample", tabindex=0, role="region", aria_label=f"Line {row.line}"))
    return element("section", *parts, class_="card")


def _marks(trained: bool, beyond: bool) -> str | None:
    return " ".join(filter(None, ("learned" if trained else "", "cut" if beyond else ""))) or None


def _worst(report: Report) -> Html:
    """Return the examples with the most errors and findings, if their file can be read again."""
    rows: list[list[Content]] = []
    for file in report.files:
        found: dict[int, list[Finding]] = defaultdict(list)
        for finding in report.findings:
            if finding.line and finding.file == name_of(file.path):
                found[finding.line].append(finding)
        worst = sorted(found, key=lambda line: (-_weight(found[line]), line))[:_WORST]
        # Sources that are not local files (standard input, pipes, objects) are not read a second time.
        if not worst or not (isinstance(file.path, Path) and file.path.is_file()) or "not-text" in file.counts:
            continue
        texts: dict[int, str] = {}
        try:
            with open_examples(file.path) as opened:
                for raw in raw_lines(opened.lines()):
                    if raw.number in worst:
                        texts[raw.number] = raw.data[: 4 * _EXCERPT].decode("utf-8", "replace")[:_EXCERPT]
                    if raw.number >= max(worst):
                        break
        except RunnerError:
            continue  # its errors are among the findings
        for line in worst:
            codes = dict.fromkeys(finding.code for finding in found[line])
            text = element("code", texts.get(line, ""))
            if _PRIVATE & set(codes):
                text = element("em", "not shown: it holds what should not be passed on")
            rows.append([element("code", f"{name_of(file.path)}:{line}"), ", ".join(codes), text])
    if not rows:
        return Html()
    return joined(
        (element("h2", "Worst examples"), table(["Line", "Findings", "Beginning"], rows, label="Worst examples"))
    )


def _weight(findings: list[Finding]) -> int:
    return sum(100 if finding.severity == "error" else 1 for finding in findings)


def _prices(report: Report) -> Html:
    rows = [
        [
            *(offer.model, offer.mode, f"{offer.limit:,}", f"{offer.tokens:,}"),
            "not published" if offer.usd is None else amount(offer.usd),
        ]
        for offer in offers(report)
    ]
    headings = ["Model", "Mode", "Most tokens", "Tokens", "USD an epoch"]
    return table(headings, rows, label="Prices", numbers=(2, 3, 4))
