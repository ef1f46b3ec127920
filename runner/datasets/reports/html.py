"""The check of a dataset as one HTML page that loads nothing and runs no script: it can be mailed and kept."""

from __future__ import annotations

import datetime
from collections import defaultdict
from html import escape
from importlib.metadata import version
from pathlib import Path

from runner.datasets.examples import Finding
from runner.datasets.reading.lines import raw_lines
from runner.datasets.records.recognising import open_examples
from runner.datasets.reports.histograms import Bar, histogram, offers
from runner.datasets.reports.report import FileReport, Report
from runner.errors import RunnerError
from runner.installation import NAME
from runner.wording import counted

_SHOWN_OF_A_CODE = 20
_WORST = 12
"""Examples shown with their text."""
_EXCERPT = 400
"""Characters of each."""
_PRIVATE = frozenset({"secret", "personal-data"})
_STYLE = """
:root{color-scheme:light dark;--line:#8884;--bad:#c5221f;--odd:#9a5200;--bar:#1a73e8;--over:#c5221f;--calm:#5f6368}
@media(prefers-color-scheme:dark){:root{--bad:#ff8a80;--odd:#ffb74d;--bar:#8ab4f8;--over:#ff8a80;--calm:#bdc1c6}}
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.25rem .6rem;border-bottom:1px solid var(--line)}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
.error{color:var(--bad)}.warning{color:var(--odd)}code{overflow-wrap:anywhere}
details{margin:.3rem 0}summary{cursor:pointer}
svg{width:100%;height:auto}svg rect{fill:var(--bar)}svg rect.over{fill:var(--over)}svg text{fill:currentColor}
svg line{stroke:var(--over);stroke-dasharray:4 3}.quiet{color:var(--calm)}.scroll{overflow-x:auto}
.verdict{display:inline-block;padding:.1rem .6rem;border-radius:.4rem;border:2px solid currentColor;font-weight:600}
@media print{details>*{display:block!important}.scroll{overflow:visible}:root{color-scheme:light}}
"""


def render(report: Report) -> str:
    """Return the page. Everything from the dataset is escaped; control characters are spelled out."""
    verdict = (
        f'<p class="error"><span class=verdict>The service would refuse this</span> '
        f"{counted(report.error_count, 'error')}, {counted(report.warning_count, 'warning')}.</p>"
        if report.error_count
        else f"<p><span class=verdict>Ready to tune</span> No errors, {counted(report.warning_count, 'warning')}.</p>"
    )
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        f"<title>{_text(report.training.path.name)}</title><style>{_STYLE}</style></head><body><main>",
        f"<h1>{_text(report.training.path.name)}</h1>{verdict}{_made(report)}",
        _files(report),
    ]
    for file in report.files:
        bars = histogram(file)
        if bars:
            kind = "counted" if report.tokens_exact else "estimated"
            limit = report.max_sequence_length
            beyond = f"; the limit is {limit:,}, and longer examples are not used" if limit else ""
            title = f"Tokens of an example in {_text(file.path.name)} ({kind}{beyond})"
            parts.append(f"<h2>{title}</h2>{_plot(bars, limit)}")
        if len(file.turns) > 1:
            turns = [Bar(above=count - 1, up_to=count, count=number) for count, number in sorted(file.turns.items())]
            parts.append(f"<h2>Turns of an example in {_text(file.path.name)}</h2>{_plot(turns[:20])}")
    parts += [_findings(report), _worst(report), _prices(report), "</main></body></html>\n"]
    return "\n".join(parts)


def _text(text: str) -> str:
    return escape("".join(character if character.isprintable() else repr(character)[1:-1] for character in text))


def _table(headings: list[str], rows: list[list[str]], numbers: set[int]) -> str:
    def cells(row: list[str], tag: str) -> str:
        marked = (f"<{tag}{' class=n' if index in numbers else ''}>{cell}</{tag}>" for index, cell in enumerate(row))
        return f"<tr>{''.join(marked)}</tr>"

    body = "".join(cells(row, "td") for row in rows)
    return f"<div class=scroll><table><thead>{cells(headings, 'th')}</thead><tbody>{body}</tbody></table></div>"


def _made(report: Report) -> str:
    """Return when and by what the page was made, and for which model."""
    now = datetime.datetime.now(datetime.UTC)
    target = f" for {_text(report.model)}, {report.mode}" if report.model else ""
    return f"<p class=quiet>Checked{target} on {now:%Y-%m-%d %H:%M} UTC by open-model-tuning {version(NAME)}.</p>"


def _files(report: Report) -> str:
    rows = [_file_row(file) for file in report.files]
    headings = ["file", "format", "rows", "used", "too long", "tokens", "median", "longest"]
    return _table(headings, rows, {2, 3, 4, 5, 6, 7})


def _file_row(file: FileReport) -> list[str]:
    tokens = file.tokens.to_json()
    numbers = [file.lines, file.kept, file.over_length, tokens["sum"], tokens.get("median", 0), tokens.get("max", 0)]
    return [_text(file.path.name), file.format or "-", *(f"{number:,}" for number in numbers)]


def _plot(bars: list[Bar], limit: int | None = None) -> str:
    """Draw a histogram; bars beyond the limit have a colour of their own, and a line above the first of them."""
    height, row, left, width = len(bars) * 24, 24, 130, 560
    longest = max(bar.count for bar in bars)
    shapes: list[str] = []
    for index, bar in enumerate(bars):
        size = round(bar.count / longest * width, 1)
        y = index * row
        over = limit is not None and bar.above >= limit
        if over and not any("<line" in shape for shape in shapes):
            shapes.append(f'<line x1="0" x2="760" y1="{y + 1}" y2="{y + 1}"/>')
        kind = ' class="over"' if over else ""
        shapes.append(
            f'<text x="{left - 8}" y="{y + 17}" text-anchor="end">{bar.above:,} - {bar.up_to:,}</text>'
            f'<rect{kind} x="{left}" y="{y + 4}" width="{size}" height="16"/>'
            f'<text x="{left + size + 6}" y="{y + 17}">{bar.count:,}</text>'
        )
    return f'<svg viewBox="0 0 760 {height}" role="img" aria-label="Histogram" font-size="13">{"".join(shapes)}</svg>'


def _findings(report: Report) -> str:
    if not report.findings:
        return "<h2>Findings</h2><p>None.</p>"
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in [*report.errors, *report.warnings]:
        groups.setdefault((finding.severity, finding.code), []).append(finding)
    parts = ["<h2>Findings</h2>"]
    for (severity, code), found in groups.items():
        count = sum(file.counts.get(code, 0) for file in report.files) or len(found)
        rows = [[_text(item.place), _text(item.message), _text(item.fix)] for item in found[:_SHOWN_OF_A_CODE]]
        more = f"<p>… and {count - len(rows):,} more</p>" if count > len(rows) else ""
        parts.append(
            f'<details{" open" if severity == "error" else ""}><summary><span class="{severity}">{severity}</span> '
            f"<code>{code}</code> ({count:,})</summary>"
            f"{_table(['Line', 'Problem', 'How to fix'], rows, set())}{more}</details>"
        )
    return "\n".join(parts)


def _worst(report: Report) -> str:
    """Return the examples with the most errors and findings, as far as their file can be read again."""
    rows: list[list[str]] = []
    for file in report.files:
        found: dict[int, list[Finding]] = defaultdict(list)
        for finding in report.findings:
            if finding.line and finding.file == file.path.name:
                found[finding.line].append(finding)
        worst = sorted(found, key=lambda line: (-_weight(found[line]), line))[:_WORST]
        once = isinstance(file.path, Path) and not file.path.is_file()  # standard input and pipes
        if not worst or once or "not-text" in file.counts:
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
            continue  # what is wrong with it is among the findings
        for line in worst:
            codes = dict.fromkeys(finding.code for finding in found[line])
            private = _PRIVATE & set(codes)
            text = (
                "<em>not shown: it holds what should not be passed on</em>" if private else _text(texts.get(line, ""))
            )
            rows.append([f"{_text(file.path.name)}:{line}", _text(", ".join(codes)), f"<code>{text}</code>"])
    if not rows:
        return ""
    return f"<h2>Worst examples</h2>{_table(['Line', 'Findings', 'Beginning'], rows, set())}"


def _weight(findings: list[Finding]) -> int:
    return sum(100 if finding.severity == "error" else 1 for finding in findings)


def _prices(report: Report) -> str:
    rows = [
        [
            *(_text(offer.model), offer.mode, f"{offer.limit:,}", f"{offer.tokens:,}"),
            "-" if offer.usd is None else f"${offer.usd:,.2f}",
        ]
        for offer in offers(report)
    ]
    headings = ["model", "mode", "max tokens", "tokens", "USD an epoch"]
    table = _table(headings, rows, {2, 3, 4})
    # The page is about the dataset: what every model would cost is there for who wants it.
    return f"<details><summary>What one epoch would cost on each model</summary>{table}</details>"
