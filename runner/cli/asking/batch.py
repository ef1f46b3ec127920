"""`runner batch`: a file of questions through an endpoint."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from runner.cli import commands
from runner.cli.options import Invocation, endpoint_option, sampling_options
from runner.cli.stand_ins import tell_of_endpoint
from runner.cli.text import duration
from runner.errors import RunnerError

_REPORT_SECONDS = 5.0


@commands.command(
    name="batch",
    changes=True,
    examples=(
        "runner batch questions.jsonl --endpoint my-model -o answers.jsonl",
        "runner batch questions.jsonl -o answers.jsonl --concurrency 32 --max-tokens 200 --temperature 0",
    ),
)
@click.argument("source", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE")
@endpoint_option
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    metavar="FILE",
    help="File for the answers, in the order of the questions.",
)
@click.option(
    "--concurrency",
    type=click.IntRange(1, 256),
    default=8,
    show_default=True,
    metavar="N",
    help="Number of concurrent requests.",
)
@click.option("--restart", is_flag=True, help="Ignore the answers of an earlier run.")
@sampling_options
@click.pass_obj
def command(
    invocation: Invocation,
    /,
    source: Path,
    endpoint: str | None,
    output: Path,
    concurrency: int,
    restart: bool,
    **sampling: Any,
) -> None:
    """Send every line of FILE to an endpoint and write the answers in the same order.

    A line is {"messages": […]} for a chat, or {"prompt": …}; other keys, such as max_tokens, are sent unchanged. 429
    and 5xx are retried. After an interruption, the same command resumes without asking answered questions
    again. The exit code is 1 if lines were refused; each has its error in the output.
    """
    from runner.serving.batch import BatchProgress, run_batch
    from runner.serving.prediction import resolve_endpoint

    out = invocation.output
    last = time.monotonic()

    def report(state: BatchProgress) -> None:
        nonlocal last
        if time.monotonic() - last < _REPORT_SECONDS:
            return
        last = time.monotonic()
        left = state.seconds_left
        rate = f"{state.per_second:.1f} a second"
        out.note(f"{state.done} of {state.total}, {rate}, {duration(left) if left is not None else '?'} left")

    with invocation.session() as session:
        found = resolve_endpoint(session, endpoint)
        tell_of_endpoint(invocation, session, found)
        invocation.interrupted = "the answers so far are saved; run the same command again to continue"
        done = run_batch(
            session,
            found,
            source,
            output,
            concurrency=concurrency,
            sampling=sampling,
            restart=restart,
            progress=report,
        )
    before = done.total - done.asked
    pairs = [
        ("answers", done.total - done.failed),
        ("refused", done.failed or None),
        ("answered before", before or None),
        ("rate", f"{done.per_second:.1f} answers, {done.tokens / max(done.seconds, 1e-9):.0f} tokens a second"),
        ("output", str(output)),
    ]
    out.result({**done.to_json(), "output": str(output)}, pairs, name=str(output))
    if done.failed:
        raise RunnerError(f"{done.failed} of {done.total} lines were refused", hint=f"grep '\"error\"' {output}")
