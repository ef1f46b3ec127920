"""`runner batch`: send a file of questions to an endpoint, or to a batch prediction job."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runner.cli import commands
from runner.cli.completing import completed
from runner.cli.options import SAMPLING, Invocation, cost_options, endpoint_option, sampling_options, together
from runner.cli.stand_ins import tell_of_answers
from runner.cli.text import duration
from runner.cli.values import FILE, INPUT, Count, Duration, OneOf, Quantity
from runner.errors import RunnerError, require_sound
from runner.prices import up_to
from runner.wording import state_words

if TYPE_CHECKING:
    from runner.gcp.batch_jobs import BatchJob
    from runner.gcp.endpoints import Endpoint
    from runner.gcp.session import Session
    from runner.serving.batches.pricing import BatchEstimate

_REPORT_SECONDS = 5.0


job_options = together(
    click.option(
        "--engine",
        type=OneOf(["endpoint", "vertex"]),
        default="endpoint",
        help="Ask an endpoint, or run a Vertex AI batch prediction job [default: endpoint].",
    ),
    click.option("--machine-type", metavar="TYPE", help="Machine of a batch job [default: the model's]."),
    click.option(
        "--replicas",
        type=Count(1, 128),
        default=1,
        show_default=True,
        help="Number of machines of a batch job.",
    ),
    click.option(
        "--tokens-per-second",
        "rate",
        type=Quantity(0, min_open=True),
        help="Measured rate of one replica, for the price of a batch job [default: an estimate].",
    ),
)
"""The options of batch prediction jobs: `engine`, `machine_type`, `replicas` and `rate`."""


def _mistakes(invocation: Invocation, given: Mapping[str, Any]) -> list[str]:
    """Return an error if options of a batch prediction job are given without --engine vertex."""
    wanted = [given.get(name) for name in ("model", "machine_type", "rate", "dry_run", "timeout")]
    if given.get("engine", "endpoint") == "endpoint" and (any(wanted) or invocation.max_cost is not None):
        names = "--model, --machine-type, --tokens-per-second, --dry-run, --timeout and --max-cost"
        return [f"{names} need --engine vertex"]
    return []


@commands.command(
    name="batch",
    changes=True,
    checks=_mistakes,
    examples=(
        "runner batch questions.jsonl --endpoint my-model -o answers.jsonl",
        "runner batch questions.jsonl -o answers.jsonl --concurrency 32 --max-tokens 200 --temperature 0",
        "runner batch questions.jsonl --engine vertex --model 4711 -o answers.jsonl --replicas 4 --max-cost 20",
        "runner batch questions.jsonl --engine vertex --model 4711 -o answers.jsonl --dry-run",
    ),
)
@click.argument("source", type=INPUT, metavar="FILE")
@endpoint_option
@click.option(
    "--model",
    metavar="ID",
    shell_complete=completed("jobs"),
    help="Model of a batch job: a tuning job's ID, or the full name of a model [default: the endpoint's].",
)
@job_options
@click.option("-o", "--output", type=FILE, required=True, help="File for the answers, in the order of the questions.")
@click.option(
    "--concurrency",
    type=Count(1, 256),
    default=8,
    show_default=True,
    help="Number of concurrent requests to an endpoint.",
)
@click.option("--restart", is_flag=True, help="Ignore the answers of an earlier run.")
@click.option("--dry-run", is_flag=True, help="Only show the time and the price of a batch job.")
@click.option("--timeout", type=Duration(), help="Stop waiting for a batch job, with exit code 6.")
@cost_options
@sampling_options
@click.pass_obj
def command(
    invocation: Invocation,
    /,
    source: Path,
    endpoint: str | None,
    model: str | None,
    engine: str,
    machine_type: str | None,
    output: Path,
    concurrency: int,
    dry_run: bool,
    timeout: float | None,
    **choices: Any,
) -> None:
    """Send every line of FILE to an endpoint or a batch prediction job, and write the answers in the same order.

    A line is {"messages": […]} for a chat, or {"prompt": …}; other keys, such as max_tokens, are sent unchanged. The
    command retries errors 429 and 5xx. After an interruption, run it again to resume; it skips questions that have
    answers. The exit code is 1 if the model refused lines; the output has the error of each.

    With --engine vertex, a batch prediction job answers. It needs no endpoint, and is billed while its machines run.
    The command shows the price first. If you run it again, it finds the job and never creates a second one.
    """
    choices["sampling"] = {name: choices.pop(name) for name in SAMPLING}
    if engine == "vertex":
        with invocation.session() as session:
            from runner.cli.cost_gate import terms
            from runner.serving.batches import jobs, predictors

            who = predictors.predictor(session, model or endpoint, machine_type)
            if dry_run:
                del choices["restart"]
                _show_plan(invocation, jobs.plan(source, who, **choices))
                return
            invocation.interrupted = "the batch job continues; run the same command again to get its answers"
            choices |= {"terms": terms(invocation), "timeout": timeout, "progress": _told(invocation)}
            done = jobs.run_job(session, who, source, output, **choices)
        _end(invocation, done.to_json(), _pairs(done.to_json()), done.failed, done.total, output)
        return
    rate = choices.pop("rate")
    del choices["replicas"]
    given = {"model": model, "machine_type": machine_type, "rate": rate, "dry_run": dry_run, "timeout": timeout}
    require_sound(_mistakes(invocation, given), hint="add --engine vertex")
    _ask(invocation, source, endpoint, output, concurrency=concurrency, **choices)


def _ask(
    invocation: Invocation, source: Path, endpoint: str | None, output: Path, *, concurrency: int, **choices: Any
) -> None:
    from runner.serving.batches.online import BatchProgress, run_batch
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
        tell_of_answers(invocation, session, found)
        _advise(invocation, session, found, source, choices["sampling"], concurrency)
        invocation.interrupted = "the answers so far are saved; run the same command again to continue"
        done = run_batch(session, found, source, output, concurrency=concurrency, progress=report, **choices)
    before = done.total - done.asked
    pairs = [
        ("answers", done.total - done.failed),
        ("refused", done.failed or None),
        ("answered before", before or None),
        ("rate", f"{done.per_second:.1f} answers, {done.tokens / max(done.seconds, 1e-9):.0f} tokens per second"),
    ]
    _end(invocation, done.to_json(), pairs, done.failed, done.total, output)


def _advise(
    invocation: Invocation,
    session: Session,
    endpoint: Endpoint,
    source: Path,
    sampling: dict[str, Any],
    concurrency: int,
) -> None:
    """Report on standard error when a batch prediction job would be faster or cheaper."""
    from runner.serving.batches import jobs, predictors, pricing
    from runner.serving.batches.lines import opened
    from runner.serving.listing import describe

    served = endpoint.deployed_models[:1]
    if not served or served[0].machine is None:
        return
    with opened(source) as lines:
        work = jobs.work_of(lines, sampling)
    if work.questions < pricing.FEWEST_QUESTIONS:
        return
    base = ""
    with contextlib.suppress(RunnerError):  # users of an endpoint may lack the permission to list jobs
        base = predictors.base_of(session, served[0].model)
    line = pricing.advice(
        work,
        base,
        served[0].machine,
        concurrency=concurrency,
        replicas=max(1, served[0].replicas),
        hourly=describe(endpoint).usd_per_hour,
    )
    if line:
        invocation.output.note(f"{line}: --engine vertex --replicas {4 * max(1, served[0].replicas)}")


def _told(invocation: Invocation) -> Any:
    said = ""

    def tell(job: BatchJob) -> None:
        nonlocal said
        line = f"batch prediction job {job.id} is {state_words(job.state)}"
        if line != said:
            said = line
            invocation.output.note(line)

    return tell


def _show_plan(invocation: Invocation, found: BatchEstimate) -> None:
    known = found.seconds is not None and found.high_seconds is not None
    price = (
        f"{up_to(found.usd, found.high)} (list prices of {found.price_date})"
        if found.usd is not None and found.high is not None
        else "no price is published for this model and machine: --tokens-per-second, --machine-type"
    )
    pairs = [
        ("questions", found.work.questions),
        ("answers", f"about {found.work.expected_tokens:,} tokens, {found.work.most_tokens:,} at most"),
        ("machines", f"{found.replicas} x {found.machine.machine_type if found.machine else '?'}"),
        ("time", f"about {duration(found.seconds)}, up to {duration(found.high_seconds)}" if known else None),  # type: ignore[arg-type]
        ("price", price),
    ]
    invocation.output.result(found.to_json(), pairs, name=f"{found.usd:.2f}" if found.usd is not None else "")


def _pairs(body: dict[str, Any]) -> list[tuple[str, Any]]:
    hours = body["replicaHours"]
    return [
        ("job", body["job"]),
        ("answers", body["total"] - body["failed"]),
        ("refused", body["failed"] or None),
        ("billed", f"{hours:.2f} replica hours" if hours is not None else None),
    ]


def _end(
    invocation: Invocation, body: dict[str, Any], pairs: list[tuple[str, Any]], failed: int, total: int, output: Path
) -> None:
    """Print the result of a batch. Raises RunnerError if lines were refused."""
    invocation.output.result({**body, "output": str(output)}, [*pairs, ("output", str(output))], name=str(output))
    if failed:
        raise RunnerError(f"{failed} of {total} lines were refused", hint=f"grep '\"error\"' {output}")
