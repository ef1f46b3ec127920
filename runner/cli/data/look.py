"""`runner data stats`, `preview` and `report`: look at a dataset."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runner.cli import commands
from runner.cli.data import engines
from runner.cli.data.engines import EngineChoice, engine_options
from runner.cli.data.group import STATISTICS_DROPPABLE, checked, statistics
from runner.cli.data.sources import sources, tokenizer_for
from runner.cli.options import Dataset, Invocation, dataset_options, limits_options, require_absent
from runner.cli.text import amount, visible
from runner.cli.values import FILE, Count, DataFile

if TYPE_CHECKING:
    from runner.datasets.reports.preview import Preview
    from runner.datasets.reports.report import Report
    from runner.datasets.tokens.counters import TokenCounter

_BAR_COLUMNS = 40


@commands.command(
    name="stats",
    examples=(
        "runner data stats train.jsonl",
        "runner data stats train.jsonl --epochs 3 --model qwen/qwen3@qwen3-32b",
        "runner data stats train.jsonl --tokenizer ./qwen3 --sample",
    ),
)
@dataset_options
@click.option("--epochs", type=Count(1), default=1, show_default=True, help="Number of epochs to price.")
@click.option("--sample", is_flag=True, help="Estimate the tokens from a sample of 2000 lines, in about a second.")
@engine_options
@click.pass_obj
def stats(
    invocation: Invocation,
    dataset: Dataset,
    epochs: int,
    sample: bool,
    engine: EngineChoice,
) -> None:
    """Show rows, turns, tokens and lengths of TRAINING, and what each model and mode would cost.

    Prices come from the catalog, without warranty; `runner estimate` explains a price.
    """
    if sample:
        _sample(invocation, dataset)
        return
    from runner.datasets.reports.histograms import histogram, offers
    from runner.wording import counted

    with engines.opened(invocation, engine, "stats", dataset.training, dataset.validation) as beam:
        report = checked(invocation, dataset, beam=beam)
    wanted = [offer for offer in offers(report, epochs) if _matches(offer, dataset.model, dataset.mode)]
    output = invocation.output
    if output.is_json:
        bars = [
            {"above": bar.above, "upTo": bar.up_to, "count": bar.count} for bar in histogram(report, report.training)
        ]
        body = report.to_json()
        del body["findings"]
        output.document({**body, "histogram": bars, "epochs": epochs, "offers": [offer.to_json() for offer in wanted]})
        report.raise_for_errors()
        return
    file = report.training
    if not file.examples:
        report.raise_for_errors()
    if not output.quiet:
        output.table(*statistics(report), body=None, numbers=(1, 2, 3, 4, 5), droppable=STATISTICS_DROPPABLE)
        output.text("")
        _lengths(invocation, report)
    rows = [
        [
            *(offer.model, offer.mode, offer.limit, file.examples - file.text_only_filtered - offer.kept, offer.tokens),
            "-" if offer.usd is None else amount(offer.usd),
        ]
        for offer in wanted
    ]
    headings = ["model", "mode", "max tokens", "too long", "tokens", f"USD, {counted(epochs, 'epoch')}"]
    spare = ("max tokens", "too long")
    output.table(headings, rows, body=None, names=[str(file.tokens.total)], numbers=(2, 3, 4, 5), droppable=spare)
    report.raise_for_errors()


def _matches(offer: Any, model: str | None, mode: Any) -> bool:
    from runner.catalog import find_model

    return (model is None or offer.model == find_model(model).id) and (mode is None or offer.mode == mode)


def _sample(invocation: Invocation, dataset: Dataset) -> None:
    from runner.datasets.records.recognising import plain_examples
    from runner.datasets.tokens.sampling import sample_tokens

    counter, limit = _counter(invocation, dataset.model, dataset.mode, dataset.tokenizer)
    with sources(invocation, dataset.training) as (source, _), plain_examples(source) as path:
        sample = sample_tokens(path, counter, limit=limit)
    body = {**sample.to_json(), "tokenCount": counter.describe()}
    text = [
        ("tokens", f"{sample.tokens} ± {sample.margin} (95%)"),
        ("bytes", sample.size),
        ("lines drawn", sample.draws),
        ("tokens are", counter.describe()),
    ]
    invocation.output.result(body, text, name=str(sample.tokens))


def _counter(
    invocation: Invocation, model: str | None, mode: Any, tokenizer: Path | None
) -> tuple[TokenCounter, int | None]:
    """Return the token counter for a model, and its maximum example length if a model is given."""
    from runner.catalog import find_model
    from runner.datasets.tokens.counters import open_counter, ratio_of

    found = find_model(model) if model else None
    limits = found.modes.get(mode or next(iter(found.modes))) if found else None
    counter = open_counter(ratio_of(found, mode), tokenizer_for(invocation, found, tokenizer))
    return counter, limits.max_sequence_length if limits else None


def _lengths(invocation: Invocation, report: Report) -> None:
    from runner.datasets.reports.histograms import histogram

    file, exact, limit = report.training, report.tokens_exact, report.max_sequence_length
    bars = histogram(report, file)
    if not bars:
        return
    longest = max(bar.count for bar in bars)
    width = len(str(bars[-1].up_to))
    output = invocation.output
    output.text(f"tokens of an example{'' if exact else ' (est.)'}")
    for bar in bars:
        columns = round(bar.count / longest * _BAR_COLUMNS) or (1 if bar.count else 0)
        beyond = "  longer than the limit: not used" if limit is not None and bar.above >= limit and bar.count else ""
        output.text(f"  {bar.above:>{width}} - {bar.up_to:>{width}}  {'█' * columns} {bar.count}{beyond}")
    if not file.tokens.counts:
        return
    numbers = file.tokens.to_json()
    turns = ", ".join(f"{count} with {number}" for number, count in sorted(file.turns.items())[:6])
    output.pairs(
        [
            ("median, p90, p99", f"{numbers['median']}, {numbers['p90']}, {numbers['p99']}"),
            ("trained tokens", file.trained_tokens if exact else None),
            ("turns", turns),
            ("images", file.images or None),
        ]
    )
    output.text("")


@commands.command(
    name="preview",
    examples=(
        "runner data preview train.jsonl",
        "runner data preview train.jsonl --line 17 --tokenizer ./qwen3",
        "runner data preview train.jsonl --model google/gemma3@gemma-3-27b-it",
    ),
)
@click.argument("path", type=DataFile(exists=True), metavar="FILE")
@click.option("--line", type=Count(1), default=1, show_default=True, help="Number of the line to show.")
@limits_options
@click.pass_obj
def preview(
    invocation: Invocation, path: Path | str, line: int, model: str | None, mode: Any, tokenizer: Path | None
) -> None:
    """Show one example of FILE as the model sees it: learned text is bright, the rest is dim.

    Without colors, learned text is enclosed in [[ and ]].
    """
    from runner.datasets.reports.preview import preview_line

    counter, limit = _counter(invocation, model, mode, tokenizer)
    with sources(invocation, path) as (source, _):
        shown = preview_line(source, line, counter, limit=limit)
    output = invocation.output
    if output.is_json:
        output.document(shown.to_json())
        return
    _show(invocation, shown)
    about = "" if shown.exact else "about "
    learned = f", {shown.trained_tokens} of them learned" if shown.trained_tokens is not None else ""
    allowed = f"; {shown.limit} allowed" if shown.limit else ""
    output.note(f"line {line}: {about}{shown.tokens} tokens{learned}{allowed}")
    if shown.limit is not None and shown.tokens > shown.limit:
        output.warning("the example is too long: the service drops it")


def _show(invocation: Invocation, shown: Preview) -> None:
    colored = not invocation.no_color and sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    cut = False
    for piece in shown.pieces:
        if piece.beyond and not cut:
            cut = True
            click.echo("\n-- cut here --" if not colored else click.style("\n-- cut here --", fg="red"))
        text = visible(piece.text, lines=True)
        if colored:
            click.echo(click.style(text, bold=piece.trained, dim=not piece.trained), nl=False)
        else:
            click.echo(f"[[{text}]]" if piece.trained else text, nl=False)
    click.echo()


@commands.command(
    name="report",
    examples=(
        "runner data report train.jsonl --html report.html",
        "runner data report train.jsonl --validation validation.jsonl --model qwen/qwen3@qwen3-32b --html report.html",
    ),
)
@dataset_options
@click.option("--html", "target", type=FILE, required=True, help="HTML file to write.")
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
@click.pass_obj
def report(
    invocation: Invocation,
    dataset: Dataset,
    target: Path,
    force: bool,
) -> None:
    """Check TRAINING and write an HTML page with all findings, lengths and prices. The page needs no network."""
    from runner import local_files
    from runner.datasets.reports.html import render

    require_absent(target, force=force)
    found = checked(invocation, dataset)
    local_files.replace(target, render(found))
    body = {"page": str(target), "errors": found.error_count, "warnings": found.warning_count}
    text = [("page", str(target)), ("errors", found.error_count), ("warnings", found.warning_count)]
    invocation.output.result(body, text, name=str(target))
