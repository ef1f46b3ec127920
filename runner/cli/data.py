"""`runner data`: check datasets, upload them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runner.cli import commands
from runner.cli.options import Invocation, dataset_options
from runner.cli.text import size

if TYPE_CHECKING:
    from runner.datasets.report import Report

command = commands.Group(
    name="data",
    help="Check datasets against the service's rules, all mistakes in one pass, and upload them.",
    examples=(
        "runner data check train.jsonl",
        "runner data check train.jsonl --validation validation.jsonl --model qwen/qwen3@qwen3-32b",
        "runner data upload train.jsonl --model qwen/qwen3@qwen3-32b",
    ),
    lazy={
        "check": ("runner.cli.data:check", "Check a dataset without sending it anywhere."),
        "upload": ("runner.cli.data:upload", "Check a dataset and bring it into its bucket."),
    },
)


@commands.command(
    name="check",
    examples=(
        "runner data check train.jsonl",
        "runner data check train.jsonl --model meta/llama3_1@llama-3.1-8b-instruct --mode PEFT_ADAPTER",
        "runner data check train.jsonl --validation validation.jsonl --strict --format json",
    ),
)
@dataset_options
@click.option(
    "--max-findings", type=click.IntRange(0), default=50, show_default=True, metavar="N", help="Show at most."
)
@click.option("--strict", is_flag=True, help="Warnings fail too.")
@click.pass_obj
def check(
    invocation: Invocation,
    training: Path,
    validation: Path | None,
    model: str | None,
    mode: Any,
    tokenizer: Path | None,
    max_findings: int,
    strict: bool,
) -> None:
    """Check the dataset file TRAINING and list everything wrong with it. Exit code 3 if there are errors.

    Nothing leaves this machine. --model adds the limits of that model.
    """
    report = checked(invocation, training, validation, model, mode, tokenizer)
    output = invocation.output
    if output.is_json:
        output.document(report.to_json())
    elif not output.quiet:
        print_findings(invocation, report, max_findings)
        output.table(*statistics(report), body=None, numbers=(1, 2, 3, 4, 5))
    report.raise_for_errors()
    if strict and report.warnings:
        from runner.errors import DatasetError

        count = len(report.warnings)
        findings = [finding.to_json() for finding in report.warnings]
        raise DatasetError(f"{count} warning{'s' if count != 1 else ''}, and --strict", findings=findings)
    output.note("no errors" + (f", {len(report.warnings)} warnings" if report.warnings else ""))


@commands.command(
    name="upload",
    examples=(
        "runner data upload train.jsonl --validation validation.jsonl",
        "runner data upload train.jsonl --to gs://my-bucket/datasets/",
    ),
)
@dataset_options
@click.option("--to", "destination", metavar="gs://…", help="Folder to upload to [datasets/ in the datasets bucket].")
@click.pass_obj
def upload(
    invocation: Invocation,
    training: Path,
    validation: Path | None,
    model: str | None,
    mode: Any,
    tokenizer: Path | None,
    destination: str | None,
) -> None:
    """Check the dataset file TRAINING and upload it under a name made of its content.

    Nothing is sent if there are errors, nor what is there already.
    """
    from runner.datasets import upload as uploading

    report = checked(invocation, training, validation, model, mode, tokenizer)
    output = invocation.output
    with invocation.session() as session, output.progress(f"upload {training.name}") as progress:
        result = uploading.upload(session, report, destination=destination, progress=progress)
    rows = [[file.uri, size(file.size), "sent" if file.sent else "was there"] for file in result.files]
    names = [file.uri for file in result.files]
    output.table(["address", "size", ""], rows, body=result.to_json(), names=names, numbers=(1,))


def checked(
    invocation: Invocation,
    training: Path,
    validation: Path | None,
    model: str | None,
    mode: Any,
    tokenizer: Path | None,
) -> Report:
    """Return the report on a dataset. Raises ConfigurationError."""
    from runner.catalog import find_model
    from runner.datasets.checks import check_files

    found = find_model(model) if model else None
    return check_files(training, validation, model=found, mode=mode, tokenizer=tokenizer)


def print_findings(invocation: Invocation, report: Report, limit: int, *, error: bool = False) -> None:
    """List findings, errors first, one line each; `error` puts them on standard error."""
    say = invocation.output.note if error else invocation.output.text
    ordered = [*report.errors, *report.warnings]
    for finding in ordered[:limit]:
        fix = f"; {finding.fix}" if finding.fix else ""
        say(f"{finding.severity}: {finding.place}: {finding.message}{fix} [{finding.code}]")
    if len(ordered) > limit:
        say(f"… and {len(ordered) - limit} more: `runner data check --max-findings {len(ordered)}`")
    if ordered and limit and not error:
        say("")


def statistics(report: Report) -> tuple[list[str], list[list[Any]]]:
    """Return headings and rows of the numbers of each file."""
    mark = "" if report.tokens_exact else " (est.)"
    rows = []
    for file in report.files:
        tokens = file.tokens.to_json()
        row = [file.path.name, file.examples, file.kept, file.over_length, tokens["sum"], tokens.get("max", 0)]
        rows.append([*row, file.format or "-"])
    return ["file", "examples", "used", "too long", f"tokens{mark}", "longest", "format"], rows
