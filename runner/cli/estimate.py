"""`runner estimate`: the price of a tuning job before it exists."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runner.cli import commands
from runner.cli.completing import completed
from runner.cli.options import Invocation, mode_option
from runner.cli.text import amount
from runner.wording import counted

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
@click.argument("training", metavar="TRAINING")
@click.option(
    "--model",
    required=True,
    metavar="ID",
    shell_complete=completed("models"),
    help="Base model; `runner models ls` lists them.",
)
@mode_option
@click.option("--epochs", type=click.IntRange(1), metavar="N", help="Number of epochs [default: 3].")
@click.option(
    "--tokenizer",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIRECTORY",
    help="Tokenizer for token counts [default: the model's in the Hugging Face cache; otherwise an estimate].",
)
@click.pass_obj
def command(
    invocation: Invocation, training: str, model: str, mode: Any, epochs: int | None, tokenizer: Path | None
) -> None:
    """Estimate the price of tuning on the dataset TRAINING, a file or a gs:// object, and show how it is calculated."""
    from runner.cli.priced_data import sound_report
    from runner.jobs.estimate import estimate, statistics_of
    from runner.jobs.specification import TuningJobSpec

    spec = TuningJobSpec(base_model=model, training_dataset=training, mode=mode, epochs=epochs).resolved()
    report = sound_report(invocation, training, None, model=model, mode=spec.mode, tokenizer=tokenizer)
    found = estimate(spec, statistics_of(report))
    body = {"model": spec.base_model, "mode": spec.mode, **found.to_json()}
    name = "" if found.expected is None else f"{found.expected:.4f}"
    invocation.output.result(body, [("model", spec.base_model), ("mode", spec.mode), *described(found)], name=name)


def described(found: CostEstimate) -> list[tuple[str, Any]]:
    """Return what people want to know of an estimate."""
    if found.expected is None or found.low is None or found.high is None:
        price = "unknown: no price is published"
    elif found.low == found.high:
        price = amount(found.expected)
    else:
        price = f"about {amount(found.expected)} ({amount(found.low)} to {amount(found.high)})"
    return [
        ("price", price),
        ("tokens", f"{found.tokens:,} per epoch, {found.tokens * found.epochs:,} in {counted(found.epochs, 'epoch')}"),
        *[("because" if number == 0 else "", reason) for number, reason in enumerate(found.reasons)],
    ]
