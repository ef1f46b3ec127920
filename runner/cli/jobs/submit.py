"""`runner jobs submit`: parse the options of a job, show its price, and print the result."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runner.cli.commands import command
from runner.cli.cost_gate import terms
from runner.cli.estimate import described as described_estimate
from runner.cli.jobs.group import described
from runner.cli.options import (
    Invocation,
    base_model_option,
    cost_options,
    epochs_option,
    mode_option,
    replace_output_option,
    tokenizer_option,
)
from runner.cli.values import BucketPath, Count, DataFile, Number, Pair, Whole
from runner.errors import gathered

if TYPE_CHECKING:
    from runner.datasets.reading.sources import Source
    from runner.datasets.rewriting.outcome import Outcome
    from runner.gcp.session import Session
    from runner.jobs.specification import TuningJobSpec
    from runner.jobs.submitting.offers import Listener, Offer


def specified(
    *,
    base_model: str = "",
    training: Path | str = "",
    validation: Path | str | None = None,
    labels: tuple[str, ...] = (),
    final_only: bool = False,
    **choices: Any,
) -> TuningJobSpec:
    """Return the specification for the options."""
    from runner.jobs.specification import TuningJobSpec, labels_of

    return TuningJobSpec(
        base_model=base_model,
        training_dataset=str(training),
        validation_dataset=None if validation is None else str(validation),
        labels=labels_of(labels),
        export_last_checkpoint_only=final_only,
        **choices,
    )


def _mistakes(invocation: Invocation, given: Mapping[str, Any]) -> list[str]:
    """Return the errors in the options that could be converted."""
    from runner.jobs.specification import TuningJobSpec
    from runner.jobs.submitting.offers import mistakes

    known = {"training", "validation", "final_only"} | {field.name for field in dataclasses.fields(TuningJobSpec)}
    problems: list[str] = []
    with gathered(problems):
        spec = specified(**{name: value for name, value in given.items() if name in known})
        unread = {name for name in ("base_model", "training_dataset") if not getattr(spec, name)}
        problems += mistakes(spec, invocation.resolved(), unread=unread)
    return problems


@command(
    name="submit",
    changes=True,
    checks=_mistakes,
    examples=(
        "runner jobs submit --model meta/llama3_1@llama-3.1-8b-instruct --train train.jsonl --max-cost 20",
        "runner jobs submit --model qwen/qwen3@qwen3-32b --train gs://my-bucket/train.jsonl --yes --watch",
        "runner jobs submit --model google/gemma-3-27b-it --train train.jsonl --validation val.jsonl --dry-run",
        "runner jobs submit --model meta/llama3_1@llama-3.1-8b-instruct --train tickets.csv --convert",
    ),
)
@base_model_option("base_model")
@click.option(
    "--train",
    "training",
    type=DataFile(exists=True),
    required=True,
    metavar="FILE|gs://…",
    help="Training dataset: a gs:// object, or a file to upload.",
)
@click.option("--validation", type=DataFile(exists=True), metavar="FILE|gs://…", help="Validation dataset.")
@mode_option
@epochs_option
@click.option("--learning-rate", type=Number("1e-4"), help="Learning rate [default: the model's published value].")
@click.option("--adapter-size", type=Whole(), help="LoRA rank: 1, 4, 8, 16 or 32 [default: the model's].")
@click.option("--batch-size", type=Count(1), help="Examples per step [default: the service's choice].")
@click.option(
    "--output",
    "output_uri",
    type=BucketPath(),
    help="Folder for the weights [default: a new folder in the outputs bucket].",
)
@click.option("--custom-base-model", type=BucketPath(), help="Folder with custom base weights to tune.")
@click.option("--name", "display_name", default="", metavar="TEXT", help="Display name of the job and the tuned model.")
@click.option(
    "--label", "labels", type=Pair("team=search"), multiple=True, metavar="KEY=VALUE", help="Label; repeatable."
)
@click.option("--final-only", is_flag=True, help="Keep only the last checkpoint.")
@click.option("--service-account", metavar="EMAIL", help="Service account that the job runs as.")
@click.option("--kms-key", metavar="NAME", help="Cloud KMS key that encrypts the job's resources.")
@tokenizer_option
@cost_options
@click.option(
    "--dry-run", is_flag=True, help="Show what would be submitted, its price and any obstacles, without submitting."
)
@click.option("--convert", is_flag=True, help="Convert a file of another format, like `runner data convert`.")
@click.option("--force-new", is_flag=True, help="Submit even if a job with the same specification exists.")
@replace_output_option
@click.option("--watch", "watch_it", is_flag=True, help="Show progress until the job ends.")
@click.pass_obj
def submit(
    invocation: Invocation,
    /,
    **choices: Any,
) -> None:
    """Check the dataset, show the price, and submit a tuning job after you confirm.

    The same specification on the same data is the same job: run the command again, and it finds that job instead of
    paying twice.
    """
    names = ("dry_run", "watch_it", "convert", "tokenizer", "force_new", "replace_output")
    how = {name: choices.pop(name) for name in names}
    spec = specified(**choices)
    with invocation.session() as session:
        submit_specification(invocation, session, spec, **how)


def submit_specification(
    invocation: Invocation,
    session: Session,
    spec: TuningJobSpec,
    *,
    dry_run: bool = False,
    watch_it: bool = False,
    **options: Any,
) -> None:
    """Submit a specification after approval of its price, print its job, and watch it if requested.

    Args:
        invocation: the command line.
        session: the project and location.
        spec: the specification; its datasets can be files, which are uploaded.
        dry_run: only show it, with its price and obstacles.
        watch_it: show its progress until it ends.
        options: options of `runner.jobs.submitting.offers.Request`.
    """
    from runner.jobs.submitting.offers import Request, carry_out, offered

    listener = _listener(invocation)
    with offered(session, Request(spec=spec, **options), listener) as offer:
        if dry_run:
            _print_plan(invocation, offer)
            return
        submission = carry_out(offer, terms=terms(invocation, verb="Submit"), listener=listener)
    job = submission.job
    body = {**job.to_json(), "created": submission.created, "estimate": offer.estimate.to_json()}
    if not (watch_it and invocation.output.is_json):
        invocation.output.result(body, described(job), name=job.id)
    if not submission.created:
        known = f" as {job.display_name!r}" if job.display_name and job.display_name != spec.display_name else ""
        invocation.output.note(
            f"this job already exists{known}; nothing was submitted (use --force-new to submit another)"
        )
    if submission.ledger_problem:
        invocation.output.warning(
            f"{submission.ledger_problem}; the job is there, and submitting it again finds it by its fingerprint"
        )
    if watch_it:
        from runner.cli.jobs.follow import follow

        follow(invocation, session, job.name)
    else:
        invocation.output.note(f"next: `runner jobs watch {job.id}`")


def _listener(invocation: Invocation) -> Listener:
    """Return a listener that reports on standard error."""
    from runner.cli.data.sources import tell_conversion
    from runner.jobs.submitting.offers import Listener

    class Teller(Listener):
        def warned(self, message: str) -> None:
            invocation.output.warning(message)

        def converted(self, source: Source, outcome: Outcome, first_line: str) -> None:
            tell_conversion(invocation, source, outcome, first_line)

        def uploading(self, name: str) -> AbstractContextManager[Callable[[int, int], None]]:
            return invocation.output.progress(f"upload {name}")

    return Teller()


def _print_plan(invocation: Invocation, offer: Offer) -> None:
    """Print what would be submitted. Raises ConfigurationError for obstacles, like the submission."""
    from runner.jobs.preflight.obstacles import require_none

    findings = offer.obstacles()
    body = {
        "job": offer.spec.to_json(),
        "estimate": offer.estimate.to_json(),
        "obstacles": [finding.to_json() for finding in findings],
    }
    pairs: list[tuple[str, Any]] = [*offer.spec.to_json().items(), *described_estimate(offer.estimate)]
    pairs += [(item.severity, str(item)) for item in findings]
    invocation.output.result(body, pairs)
    invocation.output.note("dry run: nothing was submitted")
    require_none(findings)
