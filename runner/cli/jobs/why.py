"""`runner jobs why`: the explanation of a job, joined with the lines of the user's own file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runner.cli.commands import command
from runner.cli.jobs.group import job_name
from runner.cli.jobs.live import cost
from runner.cli.options import Invocation
from runner.errors import ConfigurationError

if TYPE_CHECKING:
    from runner.datasets.reading.sources import Source
    from runner.gcp.session import Session
    from runner.jobs.following.explaining import Explanation

_SHOWN = 20
"""Lines of the file that are shown; JSON has all of them."""
_EXCERPT = 60


@command(
    name="why",
    examples=(
        "runner jobs why latest",
        "runner jobs why 1234567890 --format json",
        "runner jobs why 1234567890 --train train.jsonl",
    ),
)
@click.argument("job", metavar="JOB")
@click.option(
    "--train",
    "file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Your local copy of the training file, whose lines are named [default: read the job's object].",
)
@click.option("--no-data", is_flag=True, help="Do not read the training file.")
@click.pass_obj
def why(invocation: Invocation, job: str, file: Path | None, no_data: bool) -> None:
    """Explain why a job failed, waits, or dropped examples: the cause, the evidence, the next command.

    The cause is data, configuration, permission, quota, capacity, platform or cancelled. For data failures and dropped
    examples, the command checks the training file again and names its lines. JOB is an id,
    a full name, or `latest`.
    """
    from runner.jobs.following.explaining import explain

    if file is not None and not file.is_file():
        raise ConfigurationError(f"{file}: no such file", problems=[f"{file}: no such file"])
    with invocation.session() as session:
        found = explain(session, job_name(session, job))
        lines: list[dict[str, Any]] = []
        if not no_data and (found.cause == "data" or found.dropped_total):
            lines = _lines(invocation, session, found, file)
    body = {**found.to_json(), "lines": lines}
    pairs: list[tuple[str, Any]] = [("job", found.job.id), ("cause", found.cause or "none"), ("", found.summary)]
    pairs += [("evidence" if not number else "", text) for number, text in enumerate(found.evidence)]
    pairs += [("line" if not number else "", _text(line)) for number, line in enumerate(lines[:_SHOWN])]
    if len(lines) > _SHOWN:
        pairs.append(("", f"… and {len(lines) - _SHOWN} more: --format json"))
    if found.billed:
        pairs.append(("billed", cost(found.billed)))
    pairs += [("next" if not number else "", text) for number, text in enumerate(found.next_steps)]
    invocation.output.result(body, pairs, name=found.cause or "none")


def _lines(invocation: Invocation, session: Session, found: Explanation, file: Path | None) -> list[dict[str, Any]]:
    """Return the lines of the training file that the job or the checks complain about, in order."""
    from contextlib import ExitStack

    from runner.cli.data.sources import sources
    from runner.errors import RunnerError

    with ExitStack() as stack:
        try:
            source, _ = stack.enter_context(sources(invocation, file or found.job.training_dataset_uri))
            if file is not None and not _same(session, file, found.job.training_dataset_uri):
                invocation.output.warning(f"{file} differs from the job's object: its line numbers may differ too")
            return _joined(found, source)
        except RunnerError as error:
            invocation.output.warning(f"the training file cannot be read: {error.message}")
            return []


def _joined(found: Explanation, source: Source) -> list[dict[str, Any]]:
    from runner.catalog import UnknownModelError, find_model
    from runner.datasets.records.recognising import read_examples

    try:
        images = find_model(found.job.base_model).images
    except UnknownModelError:
        images = True
    reasons = {item.index: item.reason for item in found.dropped}
    lines: list[dict[str, Any]] = []
    for index, parsed in enumerate(read_examples(source, images=images), start=1):
        errors = [finding for finding in parsed.findings if finding.severity == "error"]
        if index not in reasons and not (errors and found.cause == "data"):
            continue
        excerpt = parsed.example.messages[0].text if parsed.example else ""
        lines.append(
            {
                "line": parsed.line,
                "index": index if index in reasons else None,
                "reason": reasons.get(index) or "",
                "findings": [finding.to_json() for finding in errors],
                "excerpt": excerpt[:_EXCERPT],
            }
        )
    return lines


def _text(line: dict[str, Any]) -> str:
    checks = "; ".join(f"{item['path']} {item['message']}".strip() for item in line["findings"])
    parts = [line["reason"], checks if checks not in line["reason"] else ""]
    text = f"{line['line']}: {': '.join(part for part in parts if part)}"
    return text + (f" [{line['excerpt']}]" if line["excerpt"] else "")


def _same(session: Session, file: Path, uri: str) -> bool:
    from runner.gcp import storage

    info = storage.stat(session, uri)
    return info is None or info.crc32c == storage.crc32c_of(file)
