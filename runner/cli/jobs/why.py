"""`runner jobs why`: the explanation of a job, with the lines of the user's own file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from runner import local_files
from runner.cli.commands import command
from runner.cli.jobs.group import job_name
from runner.cli.jobs.live import cost
from runner.cli.options import Invocation, job_argument
from runner.cli.values import INPUT
from runner.errors import ConfigurationError

_SHOWN = 20
"""Number of displayed lines of the file; JSON contains all of them."""


@command(
    name="why",
    examples=(
        "runner jobs why latest",
        "runner jobs why 1234567890 --format json",
        "runner jobs why 1234567890 --train train.jsonl",
    ),
)
@job_argument
@click.option(
    "--train",
    "file",
    type=INPUT,
    metavar="FILE",
    help="Local copy of the training file [default: read the job's object].",
)
@click.option("--no-data", is_flag=True, help="Do not read the training file.")
@click.pass_obj
def why(invocation: Invocation, job: str, file: Path | None, no_data: bool) -> None:
    """Explain why a job failed, waits, or dropped examples: the cause, the evidence, the next command.

    The cause is data, configuration, permission, quota, capacity, platform or cancelled. For data failures and dropped
    examples, the command checks the training file again and names its lines. JOB is an ID or
    its beginning, a name, or `latest`.
    """
    from runner.jobs.following.complaints import complaints
    from runner.jobs.following.explaining import explain

    if file is not None and (problem := local_files.missing(file)):
        raise ConfigurationError(problem)
    lines: list[dict[str, Any]] = []
    with invocation.session() as session:
        found = explain(session, job_name(session, job))
        if not no_data:
            lines = [item.to_json() for item in complaints(session, found, file=file, warn=invocation.output.warning)]
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


def _text(line: dict[str, Any]) -> str:
    checks = "; ".join(f"{item['path']} {item['message']}".strip() for item in line["findings"])
    parts = [line["reason"], checks if checks not in line["reason"] else ""]
    text = f"{line['line']}: {': '.join(part for part in parts if part)}"
    return text + (f" [{line['excerpt']}]" if line["excerpt"] else "")
