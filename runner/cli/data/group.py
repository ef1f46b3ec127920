"""`runner data`: check datasets, upload them."""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from runner.cli import commands
from runner.cli.data import engines
from runner.cli.data.engines import EngineChoice, engine_options
from runner.cli.options import Dataset, Invocation, dataset_options, limit_mistakes
from runner.cli.output import finding_line
from runner.cli.text import excerpt, size
from runner.cli.values import BucketPath, Count, OneOf

if TYPE_CHECKING:
    from runner.datasets.distributed.pipelines import Beam
    from runner.datasets.reports.report import Report

_LEFT_SHOWN = 20

command = commands.Group(
    name="data",
    help="Check datasets against the service's rules; inspect, fix, split, convert and upload them.",
    examples=(
        "runner data check train.jsonl",
        "runner data check train.jsonl --validation validation.jsonl --model qwen/qwen3@qwen3-32b",
        "runner data stats train.jsonl",
        "runner data upload train.jsonl --model qwen/qwen3@qwen3-32b",
    ),
    lazy={
        "check": ("runner.cli.data.group:check", "Check a dataset without sending it anywhere."),
        "stats": ("runner.cli.data.look:stats", "Show lengths, and the price for every model and mode."),
        "preview": ("runner.cli.data.look:preview", "Show an example as the model sees it, and what it learns."),
        "report": ("runner.cli.data.look:report", "Write an HTML page with all findings and plots."),
        "fix": ("runner.cli.data.rewrite:fix", "Write a corrected copy and list every change."),
        "split": ("runner.cli.data.rewrite:split", "Split into training and validation files without leakage."),
        "convert": ("runner.cli.data.rewrite:convert", "Convert tables, records and chats to a documented format."),
        "upload": ("runner.cli.data.group:upload", "Check a dataset and upload it to the datasets bucket."),
    },
)


@commands.command(
    name="check",
    examples=(
        "runner data check train.jsonl",
        "runner data check train.jsonl --model meta/llama3_1@llama-3.1-8b-instruct --mode PEFT_ADAPTER",
        "runner data check train.jsonl --validation validation.jsonl --strict --format json",
        "runner data check train.jsonl --fetch-images --decode-images",
        "runner data check train.jsonl --report sarif > findings.sarif",
        "runner data check gs://my-bucket/train.jsonl --engine beam --runner DataflowRunner"
        " --pipeline project=my-project --pipeline region=us-central1 --pipeline temp_location=gs://my-bucket/tmp",
        "runner data check gs://my-bucket/datasets/train.jsonl.gz",
        "gzip -cd train.jsonl.gz | runner data check -",
    ),
)
@dataset_options
@click.option("--max-findings", type=Count(0), default=50, show_default=True, help="Maximum number to show.")
@click.option("--strict", is_flag=True, help="Treat warnings as errors.")
@click.option("--near-duplicates", is_flag=True, help="Also find examples that differ only in case or punctuation.")
@click.option("--workers", type=Count(1), help="Threads or processes for a large file [default: one per core].")
@click.option(
    "--fetch-images",
    is_flag=True,
    help="Also read images in buckets: verify that they exist, are complete, and match their type.",
)
@click.option("--decode-images", is_flag=True, help="Decode the pixels of images (slow).")
@engine_options
@click.option(
    "--report",
    "kind",
    type=OneOf(["table", "json", "junit", "sarif", "github"]),
    default="table",
    help="Format of the findings [default: table].",
)
@click.pass_obj
def check(
    invocation: Invocation,
    /,
    dataset: Dataset,
    max_findings: int,
    strict: bool,
    fetch_images: bool,
    decode_images: bool,
    engine: EngineChoice,
    kind: str,
    **choices: Any,
) -> None:
    """Check the dataset file TRAINING and list everything wrong with it. Exit code 3 if there are errors.

    Nothing leaves this machine unless you name a bucket. --model adds the limits of that model. TRAINING can be
    compressed, in another encoding, an object (gs://…) or `-` for standard input. For a file in another format, the
    command shows the first row as it would be converted and prints the command that converts it.
    """
    with (
        engines.opened(invocation, engine, "check", dataset.training, dataset.validation) as beam,
        _closer(invocation, fetch=fetch_images, decode=decode_images) as look_closer,
    ):
        report = checked(invocation, dataset, beam=beam, look_closer=look_closer, **choices)
    from runner.wording import counted

    output = invocation.output
    invocation.has_listed_findings = kind != "table" or not output.quiet
    if output.is_json or kind == "json":
        output.document(report.to_json())
    elif kind != "table":
        _export(invocation, report, kind)
    elif not output.quiet:
        _print_findings(invocation, report, max_findings)
        print_conversions(invocation, report)
        output.table(*statistics(report), body=None, numbers=(1, 2, 3, 4, 5), droppable=STATISTICS_DROPPABLE)
    report.raise_for_errors()
    if strict and report.warning_count:
        from runner.errors import DatasetError

        findings = [finding.to_json() for finding in report.warnings]
        raise DatasetError(f"{counted(report.warning_count, 'warning')}, and --strict", findings=findings)
    output.note("no errors" + (f", {counted(report.warning_count, 'warning')}" if report.warning_count else ""))


@contextlib.contextmanager
def _closer(invocation: Invocation, *, fetch: bool, decode: bool) -> Iterator[Any]:
    """Yield the additional image check; None if there is none."""
    if not fetch and not decode:
        yield None
        return
    from runner.datasets.images.inspection import PictureCheck

    with contextlib.ExitStack() as stack:
        session = stack.enter_context(invocation.session()) if fetch else None
        yield stack.enter_context(PictureCheck(session, decode=decode)).findings


def _export(invocation: Invocation, report: Report, kind: str) -> None:
    from importlib.metadata import version

    from runner.datasets.reports import exports

    if kind == "sarif":
        invocation.output.document(exports.sarif(report, version("open-model-tuning")))
    elif kind == "junit":
        invocation.output.text(exports.junit(report))
    else:
        for line in exports.github(report):
            invocation.output.text(line)


@commands.command(
    name="upload",
    changes=True,
    checks=limit_mistakes,
    examples=(
        "runner data upload train.jsonl --validation validation.jsonl",
        "runner data upload train.jsonl --to gs://my-bucket/datasets/",
        "runner data upload train.jsonl --images",
        "runner data upload tickets.csv --convert",
    ),
)
@dataset_options
@click.option(
    "--to", "destination", type=BucketPath(), help="Folder to upload to [default: datasets/ in the datasets bucket]."
)
@click.option(
    "--images", is_flag=True, help="Also upload images that are named by local paths, and refer to the objects instead."
)
@click.option("--convert", is_flag=True, help="Convert a file of another format, like `runner data convert`.")
@click.pass_obj
def upload(
    invocation: Invocation,
    dataset: Dataset,
    destination: str | None,
    images: bool,
    convert: bool,
) -> None:
    """Check the dataset file TRAINING and upload it under a name derived from its content.

    Nothing is sent if there are errors, or if the object already exists. Compressed files and other encodings are sent
    as plain JSON Lines in UTF-8.
    """
    from runner.cli.data.sources import ready, sources
    from runner.datasets import upload as uploading
    from runner.gcp.storage import crc32c_of

    output = invocation.output
    with contextlib.ExitStack() as stack:
        first, second = stack.enter_context(sources(invocation, dataset.training, dataset.validation))
        plain = stack.enter_context(ready(invocation, first, convert=convert))
        held_out = stack.enter_context(ready(invocation, second, convert=convert)) if second is not None else None
        session = None
        if images:
            session = stack.enter_context(invocation.session())
            from runner.datasets.images.uploads import uploaded

            with output.progress("upload images") as progress:
                copies = uploaded(session, [plain, held_out], [first, second], destination, progress=progress)
                renamed = stack.enter_context(copies)
            plain, held_out = renamed[0] or plain, renamed[1]
        checksums = {path: crc32c_of(path) for path in (plain, held_out) if path is not None}
        report = checked(invocation, dataclasses.replace(dataset, training=plain, validation=held_out))
        session = session or stack.enter_context(invocation.session())
        progress = stack.enter_context(output.progress(f"upload {first.name}"))
        result = uploading.upload(session, report, destination=destination, checked=checksums, progress=progress)
    rows = [[file.uri, size(file.size), "sent" if file.sent else "was there"] for file in result.files]
    names = [file.uri for file in result.files]
    output.table(["address", "size", ""], rows, body=result.to_json(), names=names, numbers=(1,))


def checked(
    invocation: Invocation,
    dataset: Dataset,
    *,
    beam: Beam | None = None,
    **options: Any,
) -> Report:
    """Return the report on a dataset, from the workers of `beam` if given; see `runner.datasets.named.check`."""
    from runner.datasets import named

    if beam is not None:
        from runner.datasets.distributed.checking import BeamEngine

        options["engine"] = BeamEngine(beam)
    return named.check(
        invocation.session,
        dataset.training,
        dataset.validation,
        model=dataset.model,
        mode=dataset.mode,
        tokenizer=dataset.tokenizer,
        tell=invocation.output.note,
        **options,
    )


def _print_findings(invocation: Invocation, report: Report, limit: int) -> None:
    """List findings, errors first, one per line."""
    say = invocation.output.text
    ordered = [*report.errors, *report.warnings]
    for finding in ordered[:limit]:
        say(finding_line(finding.to_json()))
    total = report.error_count + report.warning_count
    shown = min(limit, len(ordered))
    if total > shown:
        file = shlex.quote(str(report.training.path))
        more = f": `runner data check {file} --max-findings {len(ordered)}`" if len(ordered) > limit else ""
        say(f"… and {total - shown} more{more}")
    if ordered and limit:
        say("")


def print_conversions(invocation: Invocation, report: Report) -> None:
    """Show the first row of files of another format as it would be converted."""
    say = invocation.output.text
    for foreign in (file.conversion for file in report.files):
        if foreign is not None and foreign.first_row:
            say(f"first row of {foreign.name}, converted: {excerpt(foreign.first_row)}")
            if foreign.left:
                more = f" and {len(foreign.left) - _LEFT_SHOWN} more" if len(foreign.left) > _LEFT_SHOWN else ""
                say(f"not carried over: {', '.join(foreign.left[:_LEFT_SHOWN])}{more}")


STATISTICS_DROPPABLE = ("longest", "format", "too long")


def statistics(report: Report) -> tuple[list[str], list[list[Any]]]:
    """Return the headings and rows of the table of files."""
    mark = "" if report.tokens_exact else " (est.)"
    rows = []
    for file in [file for file in report.files if file.conversion is None]:
        tokens = file.tokens.to_json()
        row = [file.path.name, file.examples, file.kept, file.over_length, tokens["sum"], tokens.get("max", 0)]
        rows.append([*row, file.format or "-"])
    return ["file", "examples", "used", "too long", f"tokens{mark}", "longest", "format"], rows
