"""`runner data fix`, `split` and `convert`: write datasets from datasets, never over one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from runner.cli import commands
from runner.cli.data_sources import DataFile, result, sources, target
from runner.cli.options import Invocation
from runner.cli.text import size

_FILE = DataFile()


@commands.command(
    name="fix",
    examples=(
        "runner data fix train.jsonl --output train-fixed.jsonl",
        "runner data fix train.jsonl --output train-fixed.jsonl --keep-duplicates --format json",
    ),
)
@click.argument("path", metavar="FILE", type=_FILE)
@click.option("--output", "given", type=_FILE, required=True, metavar="FILE", help="Copy to write.")
@click.option("--keep-duplicates", is_flag=True, help="Keep examples that are there already.")
@click.option("--max-changes", type=click.IntRange(0), default=50, show_default=True, metavar="N", help="Show at most.")
@click.pass_obj
def fix(invocation: Invocation, path: Path | str, given: Path | str, keep_duplicates: bool, max_changes: int) -> None:
    """Write a copy of FILE in which what can be mended is mended, and list every change; FILE itself stays as it is.

    Keys and roles are renamed, unknown keys and control characters removed, several objects on a line split. What is
    still no example is left out, and so are repeats.
    """
    from runner.datasets.fixing import fix_file

    with sources(invocation, path) as (source, _), target(invocation, given) as written:
        repair = fix_file(source, written, duplicates=not keep_duplicates)
    output = invocation.output
    if not output.is_json and not output.quiet:
        say = output.note if str(given) == "-" else output.text
        for change in repair.changes[:max_changes]:
            say(f"{source.name}:{change.line}: {change.action}: {change.what}")
        total = sum(repair.counts.values())
        if total > max_changes:
            say(f"… and {total - min(max_changes, len(repair.changes))} more")
    text: list[tuple[str, Any]] = [
        ("written", f"{given}, {repair.rows} rows"),
        ("unchanged", repair.unchanged),
        *sorted(repair.counts.items()),
    ]
    result(invocation, given, {**repair.to_json(), "output": str(given)}, text)


@commands.command(
    name="split",
    examples=(
        "runner data split all.jsonl --training train.jsonl --validation validation.jsonl",
        "runner data split all.jsonl --training train.jsonl --validation validation.jsonl --share 0.05 --seed 7",
    ),
)
@click.argument("path", metavar="FILE", type=_FILE)
@click.option("--training", type=_FILE, required=True, metavar="FILE", help="Training file to write.")
@click.option("--validation", type=_FILE, required=True, metavar="FILE", help="Validation file to write.")
@click.option("--share", type=float, default=0.1, show_default=True, metavar="X", help="Of the bytes, to hold out.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, metavar="N", help="Choice of examples.")
@click.pass_obj
def split(
    invocation: Invocation,
    path: Path | str,
    training: Path | str,
    validation: Path | str,
    share: float,
    seed: int,
) -> None:
    """Split FILE into training and validation files that the service takes together.

    Examples with the same prompt stay on one side, so that validation measures what was learned and not what was
    memorised. The service takes validation files of at most 25 % of the training file's bytes and 5000 rows.
    """
    from runner.datasets.sources import STDIN, is_there
    from runner.datasets.splitting import split_file
    from runner.errors import ConfigurationError

    if STDIN in {training, validation}:
        raise ConfigurationError("two files are written: standard output holds one", hint="name two files")
    with sources(invocation, path) as (source, _):
        if not is_there(source):
            raise ConfigurationError(f"{path}: no such file")
        with target(invocation, training) as kept, target(invocation, validation) as held:
            made = split_file(source, kept, held, share=share, seed=seed)
    body = made.to_json()
    body["training"]["path"], body["validation"]["path"] = str(training), str(validation)
    rows = [
        [str(training), made.training_rows, size(made.training_bytes)],
        [str(validation), made.validation_rows, size(made.validation_bytes)],
    ]
    names = [str(training), str(validation)]
    invocation.output.table(["file", "rows", "size"], rows, body=body, names=names, numbers=(1, 2))


@commands.command(
    name="convert",
    examples=(
        "runner data convert faq.csv --to chat --output train.jsonl",
        "runner data convert alpaca.json --to prompt_completion --output train.jsonl",
        "gzip -cd chats.jsonl.gz | runner data convert - --to generate_content --output -",
        "runner data convert tickets.csv --to chat --output train.jsonl --prompt-column body --answer-column reply",
    ),
)
@click.argument("path", metavar="FILE", type=_FILE)
@click.option(
    "--to",
    "form",
    type=click.Choice(["chat", "prompt_completion", "generate_content"]),
    required=True,
    help="Format to write.",
)
@click.option("--output", "given", type=_FILE, required=True, metavar="FILE", help="File to write.")
@click.option(
    "--from",
    "kind",
    type=click.Choice(["jsonl", "json", "csv", "tsv", "parquet"]),
    help="What FILE is, where its name does not say.",
)
@click.option("--prompt-column", metavar="NAME", help="Column of the question [the usual names].")
@click.option("--answer-column", metavar="NAME", help="Column of the answer [the usual names].")
@click.option("--system-column", metavar="NAME", help="Column of the system instruction [system].")
@click.pass_obj
def convert(
    invocation: Invocation,
    path: Path | str,
    form: Any,
    given: Path | str,
    kind: str | None,
    prompt_column: str | None,
    answer_column: str | None,
    system_column: str | None,
) -> None:
    """Write the rows of FILE as JSON Lines of a documented format.

    FILE is .jsonl (documented formats, ShareGPT, Alpaca), .json (a list of such records), .csv or .tsv with a heading,
    or .parquet where pyarrow is installed, any of them with .gz or .zst behind it, in a bucket, or `-` with --from.
    Rows that cannot be said in the format are left out and named.
    """
    from runner.datasets.converting import Columns, convert_file

    columns = Columns(prompt=prompt_column, answer=answer_column, system=system_column)
    with sources(invocation, path) as (source, _), target(invocation, given) as written:
        made = convert_file(source, written, form, columns=columns, kind=kind)
    for row, why in made.problems[:20]:
        invocation.output.warning(f"row {row} left out: {why}")
    if made.skipped > 20:
        invocation.output.warning(f"… and {made.skipped - 20} more rows left out")
    text: list[tuple[str, Any]] = [
        ("written", f"{given}, {made.rows} rows as {made.format}"),
        ("left out", made.skipped or None),
    ]
    result(invocation, given, {**made.to_json(), "output": str(given)}, text)
