"""Check and price datasets without uploading them."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from runner.api.boundary import Count, Dataset, LocalPath, local_path, public
from runner.api.connection import current
from runner.catalog import TuningMode
from runner.datasets import named
from runner.datasets.reports.report import Report
from runner.errors import ConfigurationError
from runner.gcp.session import Session
from runner.jobs.estimate import CostEstimate, statistics_of
from runner.jobs.estimate import estimate as price_of
from runner.jobs.specification import TuningJobSpec
from runner.local_files import missing


@public
def check(
    train_dataset: Dataset,
    validation_dataset: Dataset | None = None,
    *,
    base_model: str | None = None,
    tuning_mode: TuningMode | None = None,
    tokenizer: LocalPath | None = None,
    near_duplicates: bool = False,
    workers: Count | None = None,
    session: Session | None = None,
) -> Report:
    """Check a dataset and report all mistakes in one pass. Nothing leaves this machine.

    Args:
        train_dataset: file or object.
        validation_dataset: the same.
        base_model: ID in the catalog, whose limits apply.
        tuning_mode: `FULL` or `PEFT_ADAPTER`; None is the model's first.
        tokenizer: folder of the tokenizer; None is the model's in Hugging Face's cache, otherwise an estimate.
        near_duplicates: also find examples that differ only in case, white space and punctuation.
        workers: number of processes for a large file; None is one per core.
        session: connection for objects; None is the default one.

    Returns:
        A report with `errors`, `warnings`, statistics of the files, and `raise_for_errors()`.

    Raises:
        ConfigurationError: a file does not exist, or the model does not support the mode.
        UnknownModelError: the model does not exist.
        NotFoundError: an object does not exist.

    >>> report = runner.check("train.jsonl", base_model="meta/llama3_1@llama-3.1-8b-instruct")
    >>> report.errors, report.training.examples
    ([], 24)
    """
    options: dict[str, Any] = {"near_duplicates": near_duplicates, "workers": workers}
    return checked(train_dataset, validation_dataset, base_model, tuning_mode, tokenizer, session, **options)


def checked(
    training: Dataset,
    validation: Dataset | None,
    model: str | None,
    mode: TuningMode | None,
    tokenizer: LocalPath | None,
    session: Session | None,
    **options: Any,
) -> Report:
    """Return the report on a dataset; see `check`."""
    return named.check(
        lambda: contextlib.nullcontext(current(session)),
        named_dataset(training),
        None if validation is None else named_dataset(validation),
        model=model,
        mode=mode,
        tokenizer=None if tokenizer is None else local_path(tokenizer),
        **options,
    )


@public
def estimate(
    train_dataset: Dataset,
    *,
    base_model: str,
    tuning_mode: TuningMode | None = None,
    epochs: int | None = None,
    tokenizer: LocalPath | None = None,
    session: Session | None = None,
) -> CostEstimate:
    """Return the price of tuning on a dataset, in US dollars at list price, and the basis of the estimate.

    Args:
        train_dataset: file or object; it is checked first.
        base_model: ID in the catalog.
        tuning_mode: see `check`.
        epochs: passes over the data; None is 3.
        tokenizer: see `check`.
        session: see `check`.

    Raises:
        DatasetError: the dataset has errors; carries every finding.
        ConfigurationError, UnknownModelError, NotFoundError: see `check`.

    >>> cost = runner.estimate("train.jsonl", base_model="meta/llama3_1@llama-3.1-8b-instruct", epochs=1)
    >>> cost.known, cost.low <= cost.expected <= cost.high
    (True, True)
    """
    spec = TuningJobSpec(
        base_model=base_model, training_dataset=str(named_dataset(train_dataset)), mode=tuning_mode, epochs=epochs
    ).resolved()
    report = checked(train_dataset, None, spec.base_model, spec.mode, tokenizer, session, as_stored=True)
    report.raise_for_errors()
    return price_of(spec, statistics_of(report))


def named_dataset(dataset: Dataset) -> Path | str:
    """Return the file, or the `gs://` address. Raises ConfigurationError: the file does not exist."""
    text = str(dataset)
    if named.is_remote(text):
        return text
    path = local_path(dataset)
    if "://" in text and not path.exists():
        raise ConfigurationError(
            f"{text!r} is neither a file nor a gs:// address", hint="download it, and pass the file"
        )
    if not path.is_absolute() and missing(path):
        raise ConfigurationError(missing(path), hint=f"paths are relative to the current directory, {Path.cwd()}")
    return path
