"""`runner eval`: is the tuned model better than its base?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runner import local_files
from runner.cli import commands
from runner.cli.asking.batch import job_options
from runner.cli.completing import completed
from runner.cli.cost_gate import terms
from runner.cli.options import SAMPLING, Invocation, cost_options, sampling_options, together
from runner.cli.stand_ins import tell_of_answers
from runner.cli.values import FILE, INPUT, Count, Money, OneOf
from runner.errors import RunnerError, gathered, require_sound
from runner.prices import amount

if TYPE_CHECKING:
    from runner.serving.comparing import Gate
    from runner.serving.differences import Difference
    from runner.serving.evaluation import Evaluation
    from runner.serving.judging import Judgement

_GATES = ("better", "not-worse")
_DECIDERS = ("chrF", "ROUGE-L", "exact match", "token agreement", "loss", "judge")
"""Equal to `evaluation.DECIDERS`, which is not imported for `--help`; a test compares them."""
_REPORT_SECONDS = 5.0


judge_options = together(
    click.option(
        "--judge",
        metavar="NAME",
        help="Also have a model judge the answers: an endpoint, or a Google-managed PUBLISHER/MODEL.",
    ),
    click.option(
        "--judge-price",
        type=Money(),
        help="Price per million tokens of a Google-managed judge, which the catalog does not list.",
    ),
    cost_options,
)


def _mistakes(invocation: Invocation, given: Mapping[str, Any]) -> list[str]:
    """Return contradictory options, and an error if the report cannot be written."""
    from runner.serving.comparing import mistakes

    problems: list[str] = []
    if given.get("report") is not None:
        with gathered(problems):
            _check_writable(given["report"])
    names = ("endpoint", "model", "base_endpoint", "base_model")
    asked: dict[str, Any] = {name: given.get(name) for name in names}
    return problems + mistakes(**asked, engine=given.get("engine", "endpoint"))


@commands.command(
    name="eval",
    changes=True,
    checks=_mistakes,
    examples=(
        "runner eval held_out.jsonl --endpoint tuned --base-model meta/llama-3.1-8b-instruct-maas",
        "runner eval held_out.jsonl --endpoint tuned --base-endpoint base --report report.html",
        "runner eval held_out.jsonl --endpoint tuned --base-endpoint base --gate better --slice-by topic",
        "runner eval held_out.jsonl --endpoint tuned --base-endpoint base --judge my-judge",
        "runner eval held_out.jsonl --engine vertex --endpoint 4711 --base-endpoint base --max-cost 20",
    ),
)
@click.argument("dataset", type=INPUT, metavar="FILE")
@click.option(
    "--endpoint",
    metavar="ID",
    shell_complete=completed("endpoints"),
    help="Endpoint of the tuned model: ID, name or full name [default: the only one].",
)
@click.option("--model", metavar="ID", help="Evaluate a Google-managed model instead of --endpoint.")
@click.option(
    "--base-endpoint", metavar="ID", shell_complete=completed("endpoints"), help="Endpoint of the base model."
)
@click.option("--base-model", metavar="ID", help="Google-managed base model to compare with.")
@click.option("--limit", type=Count(1), help="Use only the first N examples.")
@click.option(
    "--metric",
    type=OneOf(_DECIDERS, case_sensitive=False),
    default="chrF",
    show_default=True,
    help="Metric that decides the verdict.",
)
@click.option("--slice-by", metavar="KEY", help="Also break the results down by the value of this key.")
@click.option("--report", type=FILE, help="Write an HTML report.")
@click.option("--gate", type=OneOf(_GATES), help="Exit with code 11 unless the tuned model meets this condition.")
@click.option("--concurrency", type=Count(1, 64), default=4, show_default=True, help="Number of concurrent requests.")
@job_options
@judge_options
@sampling_options
@click.pass_obj
def command(
    invocation: Invocation,
    /,
    dataset: Path,
    report: Path | None,
    gate: Gate | None,
    **choices: Any,
) -> None:
    """Send every question of FILE to a tuned model and its base, and compare their answers.

    Use questions that neither model was trained on. Scores compare the answers with those in FILE. A difference counts
    only if its 95% interval, from a paired bootstrap over the questions, excludes zero; otherwise the verdict is "no
    difference". By default, the temperature is 0 and an answer has at most 1024 tokens.

    Loss and perplexity of the file's answers are measured if both models report log probabilities. A judge is a third
    model, which sees each pair twice, in both orders.

    With --engine vertex, two batch prediction jobs answer. --endpoint and --base-endpoint then also accept tuning jobs
    and models. The command shows the price first; to resume, run it again.
    """
    from runner.serving import past_evaluations
    from runner.serving.comparing import BASE_HINT, compare, hold_gate
    from runner.serving.evaluation_report import to_html

    output = invocation.output
    require_sound(_mistakes(invocation, {**choices, "report": report}), hint=BASE_HINT)
    with invocation.session() as session:
        if choices["engine"] == "endpoint":
            tell_of_answers(invocation, session, choices["endpoint"], choices["model"])
        found = compare(
            session,
            dataset,
            sampling={name: choices.pop(name) for name in SAMPLING},
            **choices,
            terms=terms(invocation),
            tell=output.note,
            progress=_reporter(invocation),
        )
        try:
            past_evaluations.keep(session.environment, found)
        except RunnerError as error:
            output.warning(f"`runner console` will not show this evaluation: {error.message}")
    if report is not None:
        local_files.replace(report, to_html(found))
        output.note(f"report: {report}")
    _show(invocation, found)
    hold_gate(found, gate, hint="--report FILE shows the answers side by side")


def _check_writable(path: Path) -> None:
    """Check before any question is sent that a file can be written. Raises ConfigurationError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = not path.exists()
        path.open("ab").close()
        if new:
            path.unlink()
    except OSError as error:
        raise local_files.unwritable(path, error) from error


def _reporter(invocation: Invocation) -> Callable[[int, int], None]:
    """Return a callback that reports the progress every few seconds."""
    import time

    last = time.monotonic()

    def report(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= _REPORT_SECONDS:
            last = time.monotonic()
            invocation.output.note(f"{done} of {total}")

    return report


def _show(invocation: Invocation, found: Evaluation) -> None:
    rows = [
        _row(where, name, item)
        for where, metrics in (("all", found.metrics), *found.slices.items())
        for name, item in metrics.items()
    ]
    losses = {"all": found.likelihood.difference} if found.likelihood else {}
    rows += [_row(where, "loss per token", item, digits=3) for where, item in {**losses, **found.slice_losses}.items()]
    output = invocation.output
    output.table(
        ["slice", "metric", "questions", "base", "tuned", "difference", "95%", "verdict"],
        rows,
        body=found.to_json(pairs=True),
        names=[found.outcome],
        numbers=(2, 3, 4, 5, 6),
        droppable=("questions", "base", "tuned", "95%"),
    )
    latency = found.latency
    output.note(f"seconds per answer: base {latency.base:.2f}, tuned {latency.tuned:.2f}")
    if found.likelihood is not None:
        before, after = found.likelihood.perplexity
        output.note(f"perplexity of the answers: base {before:,.2f}, tuned {after:,.2f}")
    else:
        output.note(f"loss and perplexity: not measured: {found.likelihood_missing}")
    if found.judgement is not None:
        output.note(_verdicts(found.judgement))
    if found.usd_per_1000 is not None:
        output.note(f"tuned: {amount(found.usd_per_1000)} per 1,000 answers at this rate")
    for note in found.notes:
        output.note(note)
    output.note(f"verdict by {found.primary}: {found.outcome}")


def _row(where: str, name: str, item: Difference, *, digits: int = 1) -> list[Any]:
    numbers = [f"{item.base:.{digits}f}", f"{item.tuned:.{digits}f}", f"{item.mean:+.{digits}f}"]
    interval = f"{item.low:+.{digits}f} … {item.high:+.{digits}f}"
    return [where, name, item.questions, *numbers, interval, item.outcome]


def _verdicts(found: Judgement) -> str:
    from runner.serving.judging import VERDICTS

    counts = ", ".join(f"{found.count(one)} {label}" for one, label in VERDICTS.items() if found.count(one))
    rate = found.win_rate
    interval = f"; wins {rate.tuned:.0f}% ({rate.low + 50:.0f} to {rate.high + 50:.0f})" if rate else ""
    return f"judge {found.judge}: {counts}{interval}: {found.outcome}"
