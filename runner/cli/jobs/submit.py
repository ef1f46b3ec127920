"""`runner jobs submit`: check, price, agree, upload, look for obstacles, submit once."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runner.cli.commands import command
from runner.cli.cost_gate import confirm_cost
from runner.cli.estimate import described as described_estimate
from runner.cli.jobs.group import described
from runner.cli.options import Invocation, cost_options, mode_option
from runner.errors import ConfigurationError

Addresses = dict[str, tuple[str, str]]
"""Local file to the address and the CRC32C of its object."""

if TYPE_CHECKING:
    from runner.datasets.reports.report import Report
    from runner.gcp.session import Session
    from runner.jobs.estimate import CostEstimate
    from runner.jobs.specification import TuningJobSpec


@command(
    name="submit",
    examples=(
        "runner jobs submit --model meta/llama3_1@llama-3.1-8b-instruct --train train.jsonl --max-cost 20",
        "runner jobs submit --model qwen/qwen3@qwen3-32b --train gs://my-bucket/train.jsonl --yes --watch",
        "runner jobs submit --model google/gemma-3-27b-it --train train.jsonl --validation val.jsonl --dry-run",
        "runner jobs submit --model meta/llama3_1@llama-3.1-8b-instruct --train tickets.csv --convert",
    ),
)
@click.option("--model", "base_model", required=True, metavar="ID", help="Base model; `runner models ls` lists them.")
@click.option(
    "--train",
    "training",
    required=True,
    metavar="FILE|gs://…",
    help="Training dataset: a gs:// object, or a file to upload.",
)
@click.option("--validation", metavar="FILE|gs://…", help="Validation dataset.")
@mode_option
@click.option("--epochs", type=click.IntRange(1), metavar="N", help="Number of epochs [default: 3].")
@click.option("--learning-rate", type=float, metavar="X", help="Learning rate [default: the model's published value].")
@click.option("--adapter-size", type=int, metavar="N", help="LoRA rank: 1, 4, 8, 16 or 32 [default: the model's].")
@click.option(
    "--batch-size", type=click.IntRange(1), metavar="N", help="Examples per step [default: the service's choice]."
)
@click.option(
    "--output",
    "output_uri",
    metavar="gs://…",
    help="Folder for the weights [default: a new folder in the outputs bucket].",
)
@click.option("--custom-base-model", metavar="gs://…", help="Folder with custom base weights to tune.")
@click.option("--name", "display_name", default="", metavar="TEXT", help="Display name of the job and the tuned model.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="Label; repeatable.")
@click.option("--final-only", is_flag=True, help="Keep only the last checkpoint.")
@click.option("--service-account", metavar="EMAIL", help="Service account that the job runs as.")
@click.option("--kms-key", metavar="NAME", help="Cloud KMS key that encrypts the job's resources.")
@click.option(
    "--tokenizer",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIRECTORY",
    help="Tokenizer for token counts [default: the model's in the Hugging Face cache; otherwise an estimate].",
)
@cost_options
@click.option(
    "--dry-run", is_flag=True, help="Show what would be submitted, its price and any obstacles, without submitting."
)
@click.option("--convert", is_flag=True, help="Convert a file of another format, like `runner data convert`.")
@click.option("--force-new", is_flag=True, help="Submit even if a job with the same specification exists.")
@click.option("--watch", "watch_it", is_flag=True, help="Show progress until the job ends.")
@click.pass_obj
def submit(
    invocation: Invocation,
    /,
    training: str,
    validation: str | None,
    labels: tuple[str, ...],
    final_only: bool,
    tokenizer: Path | None,
    max_cost: float | None,
    accept_unknown_cost: bool,
    dry_run: bool,
    convert: bool,
    force_new: bool,
    watch_it: bool,
    **fields: Any,
) -> None:
    """Check the dataset, show the price, and submit a tuning job after you confirm.

    The same specification on the same data is the same job: run the command again, and it finds that job instead of
    paying twice.
    """
    spec = _specification(training, validation, labels, export_last_checkpoint_only=final_only, **fields)
    gate = Gate(max_cost=max_cost, accept_unknown_cost=accept_unknown_cost, dry_run=dry_run)
    with contextlib.ExitStack() as stack:
        session = stack.enter_context(invocation.session())
        spec = stack.enter_context(_readied(invocation, spec, convert=convert))
        submit_specification(
            invocation, session, spec, gate=gate, tokenizer=tokenizer, force_new=force_new, watch_it=watch_it
        )


@contextlib.contextmanager
def _readied(invocation: Invocation, spec: TuningJobSpec, *, convert: bool) -> Iterator[TuningJobSpec]:
    """Yield the specification with plain files in place of those that the service cannot read as they are."""
    from runner.cli.data.sources import ready, sources
    from runner.cli.priced_data import is_remote
    from runner.datasets.records.recognising import is_foreign

    with contextlib.ExitStack() as stack:

        def readied(given: str | None) -> str | None:
            if given is None or (is_remote(given) and not convert):
                return given
            source, _ = stack.enter_context(sources(invocation, given if is_remote(given) else Path(given)))
            if is_remote(given) and not is_foreign(source):
                return given
            return str(stack.enter_context(ready(invocation, source, convert=convert)))

        training, validation = readied(spec.training_dataset), readied(spec.validation_dataset)
        yield dataclasses.replace(spec, training_dataset=training or "", validation_dataset=validation)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What a submission may cost, and whether it is only shown."""

    max_cost: float | None = None
    accept_unknown_cost: bool = False
    dry_run: bool = False


def submit_specification(
    invocation: Invocation,
    session: Session,
    spec: TuningJobSpec,
    *,
    gate: Gate,
    tokenizer: Path | None = None,
    force_new: bool = False,
    watch_it: bool = False,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Check, price, ask, upload, look for obstacles, submit once, print, and watch if that is wanted.

    Args:
        invocation: the command line.
        session: where.
        spec: its datasets may be files, which are uploaded.
        gate: what it may cost.
        tokenizer: folder to count tokens with.
        force_new: submit although a job with the same specification exists.
        watch_it: show its progress until it ends.
        details: what the run manifest shall say besides.
    """
    from runner.jobs.submission import submit_once

    tokenizer = _tokenizer(spec, tokenizer)
    addresses = _addresses(session, spec)
    spec, report, estimate = _priced(invocation, session, spec, addresses, tokenizer)
    if gate.dry_run:
        _print_plan(invocation, session, spec, addresses, estimate)
        return
    confirm_cost(
        invocation,
        what=f"tuning {spec.base_model}",
        usd=estimate.high,
        expected=estimate.expected,
        max_cost=gate.max_cost,
        accept_unknown_cost=gate.accept_unknown_cost,
    )
    spec = _uploaded(invocation, session, spec, addresses)
    _check_obstacles(invocation, session, spec)
    known = {
        "estimate": estimate.to_json(),
        "data": [file.to_json() for file in report.files],
        "template": template_of(tokenizer) if tokenizer else None,
    }
    submission = submit_once(session, spec, force_new=force_new, details={**known, **(details or {})})
    job = submission.job
    body = {**job.to_json(), "created": submission.created, "estimate": estimate.to_json()}
    if not (watch_it and invocation.output.is_json):
        invocation.output.result(body, described(job), name=job.id)
    if not submission.created:
        invocation.output.note("this job already exists; nothing was submitted (use --force-new to submit another)")
    if submission.manifest_problem:
        invocation.output.warning(f"no run manifest beside the results: {submission.manifest_problem}")
    if submission.ledger_problem:
        invocation.output.warning(
            f"{submission.ledger_problem}; the job is there, and submitting it again finds it by its fingerprint"
        )
    if watch_it:
        from runner.cli.jobs.follow import follow

        follow(invocation, session, job.name)
    else:
        invocation.output.note(f"next: `runner jobs watch {job.id}`")


def _tokenizer(spec: TuningJobSpec, given: Path | None) -> Path | None:
    """Return the tokenizer that the data will be counted with: the run manifest names its template."""
    from runner.catalog import UnknownModelError, find_model
    from runner.datasets.tokens.hub_cache import find_tokenizer

    try:
        return given or find_tokenizer(find_model(spec.base_model))
    except UnknownModelError:
        return given  # told with all that is wrong with the specification


def template_of(tokenizer: Path) -> dict[str, str] | None:
    """Return file and SHA-256 of the chat template of a tokenizer's folder; None where it has none."""
    import hashlib

    for name in ("chat_template.jinja", "tokenizer_config.json"):
        if (tokenizer / name).is_file():
            return {"file": name, "sha256": hashlib.sha256((tokenizer / name).read_bytes()).hexdigest()}
    return None


def _specification(training: str, validation: str | None, labels: tuple[str, ...], **fields: Any) -> TuningJobSpec:
    """Return the specification, its files not yet uploaded. Raises ConfigurationError."""
    from runner.jobs.specification import TuningJobSpec

    problems = [f"--label {label!r} is not KEY=VALUE" for label in labels if "=" not in label]
    if problems:
        raise ConfigurationError("; ".join(problems), problems=problems)
    pairs = dict(label.split("=", 1) for label in labels)
    return TuningJobSpec(training_dataset=training, validation_dataset=validation, labels=pairs, **fields)


def _priced(
    invocation: Invocation, session: Session, spec: TuningJobSpec, addresses: Addresses, tokenizer: Path | None
) -> tuple[TuningJobSpec, Report, CostEstimate]:
    """Check the specification and its data; return both resolved, and the price.

    Raises:
        ConfigurationError, DatasetError: with every mistake.
    """
    from runner.cli.priced_data import sound_report
    from runner.jobs.estimate import estimate, statistics_of

    problems = _placed(spec, addresses).validate(session.environment)
    if problems:
        raise ConfigurationError("; ".join(problems), problems=problems)
    resolved = spec.resolved()
    report = sound_report(
        invocation,
        spec.training_dataset,
        spec.validation_dataset,
        model=resolved.base_model,
        mode=resolved.mode,
        tokenizer=tokenizer,
    )
    for finding in report.warnings[:5]:
        invocation.output.note(f"warning: {finding.place}: {finding.message}")
    if len(report.warnings) > 5:
        invocation.output.note(f"… and {len(report.warnings) - 5} more warnings: `runner data check`")
    return resolved, report, estimate(resolved, statistics_of(report))


def _addresses(session: Session, spec: TuningJobSpec) -> Addresses:
    """Return what the files of a specification will be in the bucket. Raises ConfigurationError."""
    from runner.cli.priced_data import is_remote
    from runner.datasets.upload import object_named

    found: Addresses = {}
    for text in (spec.training_dataset, spec.validation_dataset):
        if text is None or is_remote(text):
            continue
        session.environment.require("datasets_bucket")
        path = Path(text)
        if not path.is_file():
            raise ConfigurationError(f"{text}: no such file", problems=[f"{text}: no such file"])
        name, crc32c = object_named(path)
        found[text] = (f"gs://{session.environment.datasets_bucket}/{name}", crc32c)
    return found


def _placed(spec: TuningJobSpec, addresses: Addresses) -> TuningJobSpec:
    """Return the specification with the addresses of its files."""
    training, validation = spec.training_dataset, spec.validation_dataset
    return dataclasses.replace(
        spec,
        training_dataset=addresses[training][0] if training in addresses else training,
        validation_dataset=addresses[validation][0] if validation in addresses else validation,
    )


def _uploaded(invocation: Invocation, session: Session, spec: TuningJobSpec, addresses: Addresses) -> TuningJobSpec:
    """Upload what is still on this machine, as it was checked, and return the specification with its addresses."""
    from runner.gcp import storage

    for given, (uri, crc32c) in addresses.items():
        with invocation.output.progress(f"upload {Path(given).name}") as progress:
            storage.upload_file(session, Path(given), uri, crc32c=crc32c, progress=progress)
    return _placed(spec, addresses)


def _check_obstacles(invocation: Invocation, session: Session, spec: TuningJobSpec) -> None:
    """Raise ConfigurationError for what would make the job fail; warn of what may."""
    from runner.jobs.preflight import preflight

    findings = preflight(session, spec)
    for finding in findings:
        if finding.severity == "warning":
            invocation.output.warning(f"{finding.message}; {finding.fix}" if finding.fix else finding.message)
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        fixes = [finding.fix for finding in errors if finding.fix]
        raise ConfigurationError(
            "; ".join(finding.message for finding in errors),
            problems=[finding.message for finding in errors],
            hint="; ".join(fixes) or None,
        )


def _print_plan(
    invocation: Invocation, session: Session, spec: TuningJobSpec, addresses: Addresses, estimate: CostEstimate
) -> None:
    from runner.cli.priced_data import is_remote
    from runner.jobs.preflight import preflight

    placed = _placed(spec, addresses)
    findings = preflight(session, placed)
    if not is_remote(spec.training_dataset):
        # What is not uploaded yet is no obstacle.
        findings = [finding for finding in findings if finding.code != "object_missing"]
    body = {
        "job": placed.to_json(),
        "estimate": estimate.to_json(),
        "obstacles": [finding.to_json() for finding in findings],
    }
    pairs: list[tuple[str, Any]] = list(placed.to_json().items())
    pairs += described_estimate(estimate)
    pairs += [(finding.severity, f"{finding.message}; {finding.fix}") for finding in findings]
    invocation.output.result(body, pairs)
    invocation.output.note("dry run: nothing was sent")
