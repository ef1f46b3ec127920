"""`runner data fix`, `split` and `convert`: write new datasets without modifying the input."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from runner.cli import commands
from runner.cli.data import engines
from runner.cli.data.engines import EngineChoice, engine_options
from runner.cli.data.sources import account, sources, target
from runner.cli.options import Invocation
from runner.cli.text import size
from runner.cli.values import Count, DataFile, Encoding, Number, OneOf
from runner.errors import require_sound

_FILE = DataFile()
_INPUT = DataFile(exists=True)
_SHOWN = 20
_LAYOUTS = {
    "jsonl": "json-lines",
    "json": "json",
    "csv": "table",
    "tsv": "table",
    "excel": "excel",
    "parquet": "parquet",
}


@commands.command(
    name="fix",
    examples=(
        "runner data fix train.jsonl --output train-fixed.jsonl",
        "runner data fix train.jsonl --output train-fixed.jsonl --keep-duplicates --format json",
    ),
)
@click.argument("path", type=_INPUT, metavar="FILE")
@click.option("--output", "given", type=_FILE, required=True, help="File to write.")
@click.option("--keep-duplicates", is_flag=True, help="Keep duplicate examples.")
@click.option("--max-changes", type=Count(0), default=50, show_default=True, help="Maximum number to show.")
@click.pass_obj
def fix(invocation: Invocation, path: Path | str, given: Path | str, keep_duplicates: bool, max_changes: int) -> None:
    """Write a corrected copy of FILE and list every change; FILE itself is not modified.

    The command renames misspelled keys and roles, moves system texts and images into the messages, removes unknown keys
    and control characters, and puts each object on its own line. It omits duplicates and rows that are still not valid
    examples.
    """
    from runner.datasets.rewriting.fixing import fix_file

    output = invocation.output
    with (
        sources(invocation, path) as (source, _),
        target(invocation, given) as written,
        output.progress(f"fix {source.name}") as progress,
    ):
        repair = fix_file(source, written, duplicates=not keep_duplicates, progress=progress)
    if not output.is_json and not output.quiet:
        say = output.note if str(given) == "-" else output.text
        shown = repair.changes[:max_changes]
        for change in shown:
            say(f"{source.name}:{change.line}: {change.action}: {change.what}")
        total = sum(repair.counts[action] for action in ("changed", "split", "dropped"))
        if total > len(shown):
            say(f"… and {total - len(shown)} more")
    account(invocation, given, repair)


@commands.command(
    name="split",
    examples=(
        "runner data split all.jsonl --training train.jsonl --validation validation.jsonl",
        "runner data split all.jsonl --training train.jsonl --validation validation.jsonl --share 0.05 --seed 7",
    ),
)
@click.argument("path", type=_INPUT, metavar="FILE")
@click.option("--training", type=_FILE, required=True, help="Training file to write.")
@click.option("--validation", type=_FILE, required=True, help="Validation file to write.")
@click.option("--share", type=Number("0.1"), default=0.1, show_default=True, help="Share of the examples to hold out.")
@click.option("--seed", type=Count(0), default=0, show_default=True, help="Seed for the choice of examples.")
@engine_options
@click.pass_obj
def split(
    invocation: Invocation,
    path: Path | str,
    training: Path | str,
    validation: Path | str,
    share: float,
    seed: int,
    engine: EngineChoice,
) -> None:
    """Split FILE into training and validation files that the service accepts together.

    Examples with the same prompt stay in the same file, so that validation measures learning and not memorization. The
    service accepts validation files of at most 25% of the training file's bytes and 5000 rows. If these limits leave
    less than --share, the longest examples stay in training, and the command reports the difference.
    """
    from runner.datasets.reading.sources import STDIN
    from runner.datasets.rewriting.splitting import split_file
    from runner.errors import ConfigurationError

    if STDIN in {training, validation}:
        raise ConfigurationError("standard output can take only one of the two files", hint="use two files")
    with (
        engines.opened(invocation, engine, "split", path) as beam,
        sources(invocation, path) as (source, _),
        target(invocation, training) as kept,
        target(invocation, validation) as held,
    ):
        if beam is None:
            made = split_file(source, kept, held, share=share, seed=seed)
        else:
            from runner.datasets.distributed import splitting

            made = splitting.split_file(beam, source, kept, held, share=share, seed=seed)
    body = made.to_json()
    body["training"]["path"], body["validation"]["path"] = str(training), str(validation)
    rows = [
        [str(training), made.training.rows, size(made.training.size)],
        [str(validation), made.validation.rows, size(made.validation.size)],
    ]
    names = [str(training), str(validation)]
    if made.chosen.obstacles:
        invocation.output.warning(
            f"validation has {made.validation.rows} of the {made.chosen.wanted} examples that a share of {share:g} is:"
            f" {', and '.join(made.chosen.obstacles)}"
        )
    invocation.output.table(["file", "rows", "size"], rows, body=body, names=names, numbers=(1, 2))


def _mistakes(invocation: Invocation, given: Mapping[str, Any]) -> list[str]:
    """Return contradictory options."""
    problems = engines.engine_mistakes(given, invocation.max_cost)
    others = given.get("encoding") or given.get("kind") not in (None, "jsonl")
    if given.get("engine_name") == "beam" and others:
        problems.append("--engine beam reads JSON Lines in UTF-8, and neither --encoding nor another --from")
    return problems


@commands.command(
    name="convert",
    checks=_mistakes,
    examples=(
        "runner data convert faq.csv --output train.jsonl",
        "runner data convert alpaca.json --to prompt_completion --output train.jsonl",
        "gzip -cd chats.jsonl.gz | runner data convert - --to generate_content --output -",
        "runner data convert tickets.csv --to chat --output train.jsonl --prompt-column body --answer-column reply",
    ),
)
@click.argument("path", type=_INPUT, metavar="FILE")
@click.option(
    "--to",
    "form",
    type=OneOf(["chat", "prompt_completion", "generate_content"]),
    help="Format to write [default: the format of FILE, otherwise chat].",
)
@click.option("--output", "given", type=_FILE, required=True, help="File to write.")
@click.option(
    "--from",
    "kind",
    type=OneOf([*_LAYOUTS]),
    help="Format of FILE [default: detected].",
)
@click.option(
    "--encoding", type=Encoding(), metavar="NAME", help="Encoding of FILE, such as cp1250 [default: detected]."
)
@click.option("--prompt-column", metavar="NAME", help="Column or key of the question [default: the usual names].")
@click.option("--answer-column", metavar="NAME", help="Column or key of the answer [default: the usual names].")
@click.option("--system-column", metavar="NAME", help="Column or key of the system text [default: system].")
@engine_options
@click.pass_obj
def convert(
    invocation: Invocation,
    path: Path | str,
    form: Any,
    given: Path | str,
    kind: str | None,
    encoding: str | None,
    prompt_column: str | None,
    answer_column: str | None,
    system_column: str | None,
    engine: EngineChoice,
) -> None:
    """Write the rows of FILE as JSON Lines of a documented format.

    FILE is JSON Lines, a JSON array or pretty-printed objects (ShareGPT, Alpaca and others), CSV or TSV with a header,
    an Excel workbook or Parquet, in any common encoding, optionally compressed, in a bucket, or `-`. The command omits
    and reports rows that cannot become examples. It also reports every key and cell that the format cannot hold.
    """
    from runner.datasets.rewriting.converting import Columns, convert_file

    layout: Any = _LAYOUTS[kind] if kind else None
    columns = Columns(prompt=prompt_column, answer=answer_column, system=system_column)
    require_sound(
        _mistakes(invocation, {"engine_name": engine.name, "encoding": encoding, "kind": kind}), hint="omit --engine"
    )
    with (
        engines.opened(invocation, engine, "convert", path) as beam,
        sources(invocation, path) as (source, _),
        target(invocation, given) as written,
    ):
        if beam is None:
            how: Any = {"columns": columns, "encoding": encoding, "layout": layout}
            with invocation.output.progress(f"convert {source.name}") as progress:
                made = convert_file(source, written, form, progress=progress, **how)
        else:
            from runner.datasets.distributed import converting

            made = converting.convert_file(beam, source, written, form, columns=columns)
    for change in made.problems[:_SHOWN]:
        invocation.output.warning(f"{change.place} left out: {change.what}")
    if made.dropped > _SHOWN:
        invocation.output.warning(f"… and {made.dropped - _SHOWN} more rows left out")
    account(invocation, given, made)
