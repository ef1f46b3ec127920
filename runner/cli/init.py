"""`runner init`: a folder with a tuning job that you can plan immediately."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runner.cli import commands
from runner.cli.completing import completed
from runner.cli.options import Invocation, mode_option
from runner.cli.questions import asked, may_ask
from runner.cli.values import FOLDER, Count, DataFile, Money, OneOf
from runner.errors import ConfigurationError
from runner.local_files import expanded
from runner.wording import counted

if TYPE_CHECKING:
    from runner.scaffold import Answers

_MODEL = "meta/llama3_1@llama-3.1-8b-instruct"
_BUDGET = 5.0


@commands.command(
    name="init",
    examples=(
        "runner init my-model",
        "runner init support --data tickets.csv --max-cost 20",
        "runner init support --model qwen/qwen3@qwen3-32b --shape prompt-completion --yes",
    ),
)
@click.argument("directory", type=FOLDER, metavar="[DIRECTORY]", required=False)
@click.option(
    "--model",
    metavar="ID",
    shell_complete=completed("models"),
    help=f"Base model; `runner models ls` lists them [default: {_MODEL}].",
)
@mode_option
@click.option(
    "--data",
    type=DataFile(exists=True),
    help="Your dataset, in any form that `runner data convert` reads [default: sample data].",
)
@click.option(
    "--shape",
    type=OneOf(["chat", "prompt-completion"]),
    default="chat",
    show_default=True,
    help="Format of the sample data.",
)
@click.option(
    "--ci",
    type=OneOf(["github", "gitlab"]),
    default="github",
    show_default=True,
    help="Service whose pipeline checks pull requests.",
)
@click.option("--epochs", type=Count(1), default=3, show_default=True, help="Number of epochs.")
@click.option("--max-cost", type=Money(), help="Budget of the job [default: 5].")
@click.pass_obj
def command(
    invocation: Invocation,
    directory: Path | None,
    model: str | None,
    mode: Any,
    data: Path | str | None,
    shape: Any,
    ci: Any,
    epochs: int,
    max_cost: float | None,
) -> None:
    """Write a folder with a tuning job: manifest and schema, data, a workflow for pull requests, .gitignore,
    .gitattributes, README.

    At a terminal, the command asks for model, data and budget if you did not pass them as options. It overwrites
    nothing and sends nothing; an existing .gitattributes stays as it is.
    """
    from runner.scaffold import MANIFEST, Answers, write

    if isinstance(data, str):
        message = f"--data {data}: name a file on this machine"
        raise ConfigurationError(message, hint=f"name {data} in the manifest afterwards")
    asks = may_ask(invocation)
    place = directory or Path()
    answers = Answers(
        directory=place,
        model=model or (asked("Base model", _MODEL) if asks else _MODEL),
        mode=mode,
        epochs=epochs,
        data=data or (_asked_data() if asks else None),
        shape=shape,
        ci=ci,
        max_cost=max_cost if max_cost is not None else (_asked_budget() if asks else _BUDGET),
    )
    files = write(answers)
    body = {"directory": str(place), "manifest": str(place / MANIFEST), "files": [str(path) for path in files]}
    invocation.output.result(body, "\n".join(str(place / path) for path in files), name=str(place))
    _tell_price(invocation, answers)
    into = f"cd {place} && " if str(place) != "." else ""
    invocation.output.note(f"next: `{into}runner plan -f jobs/`")


def _asked_data() -> Path | None:
    given = asked("Dataset file, or sample data", "sample")
    return None if given == "sample" else expanded(given)


def _asked_budget() -> float:
    return float(asked("Budget in US dollars", f"{_BUDGET:g}", Money()))


def _tell_price(invocation: Invocation, answers: Answers) -> None:
    """Print the price of the job, and whether it exceeds the budget. Warns of data with errors."""
    from runner.cli.text import amount
    from runner.datasets.checks import check_files
    from runner.jobs.estimate import estimate, statistics_of
    from runner.jobs.specification import TuningJobSpec
    from runner.scaffold import DATA

    path = answers.directory / DATA / "train.jsonl"
    spec = TuningJobSpec(
        base_model=answers.model, training_dataset=str(path), mode=answers.mode, epochs=answers.epochs
    ).resolved()
    from runner.catalog import find_model

    report = check_files(path, model=find_model(answers.model), mode=spec.mode)
    if report.errors:
        invocation.output.warning(
            f"the data has {counted(report.error_count, 'error')}: `runner data check {path}` lists all"
        )
        return
    found = estimate(spec, statistics_of(report))
    if found.high is not None and found.expected is not None:
        invocation.output.note(f"on Google Cloud, the job would cost about {amount(found.expected)}")
        if found.high > answers.max_cost:
            invocation.output.warning(
                f"that may be {amount(found.high)}, more than the budget of {amount(answers.max_cost)}: raise maxCost"
            )
