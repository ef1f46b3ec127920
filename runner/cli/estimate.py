"""`runner estimate`: the price of a tuning job before it is created."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runner.cli import commands
from runner.cli.options import Dataset, Invocation, base_model_option, epochs_option, mode_option, tokenizer_option
from runner.cli.values import DataFile
from runner.prices import price_range
from runner.wording import tokens_of

if TYPE_CHECKING:
    from runner.jobs.estimate import CostEstimate


@commands.command(
    name="estimate",
    examples=(
        "runner estimate train.jsonl --model meta/llama3_1@llama-3.1-8b-instruct",
        "runner estimate train.jsonl --model qwen/qwen3@qwen3-32b --mode FULL --epochs 5 --format json",
        "runner estimate gs://my-bucket/train.jsonl --model qwen/qwen3@qwen3-32b",
    ),
)
@click.argument("training", type=DataFile(exists=True))
@base_model_option("model")
@mode_option
@epochs_option
@tokenizer_option
@click.pass_obj
def command(
    invocation: Invocation, training: Path | str, model: str, mode: Any, epochs: int | None, tokenizer: Path | None
) -> None:
    """Estimate the price of tuning on the dataset TRAINING, a file or a gs:// object, and show how it is calculated."""
    from runner.cli.data.group import checked
    from runner.jobs.estimate import estimate, statistics_of
    from runner.jobs.specification import TuningJobSpec

    spec = TuningJobSpec(base_model=model, training_dataset=str(training), mode=mode, epochs=epochs).resolved()
    dataset = Dataset(training, model=model, mode=spec.mode, tokenizer=tokenizer)
    report = checked(invocation, dataset, as_stored=True)
    report.raise_for_errors()
    found = estimate(spec, statistics_of(report))
    body = {"model": spec.base_model, "mode": spec.mode, **found.to_json()}
    name = "" if found.expected is None else f"{found.expected:.4f}"
    invocation.output.result(body, [("model", spec.base_model), ("mode", spec.mode), *described(found)], name=name)


def described(found: CostEstimate) -> list[tuple[str, Any]]:
    """Return the displayed values of an estimate."""
    return [
        ("price", price_range(found.low, found.expected, found.high)),
        ("tokens", tokens_of(found.tokens, found.epochs)),
        *[("because" if number == 0 else "", reason) for number, reason in enumerate(found.reasons)],
    ]
