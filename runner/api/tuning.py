"""Start a tuning job: check, price, get approval, look for obstacles, upload, submit once."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from runner.api.boundary import Dataset, LocalPath, local_path, public
from runner.api.connection import current
from runner.api.datasets import named_dataset
from runner.api.jobs import Job
from runner.catalog import TuningMode
from runner.gcp.session import Session
from runner.jobs.specification import TuningJobSpec
from runner.jobs.submitting.offers import Request, carry_out, offered
from runner.prices import Price, Terms


@public
def tune(
    train_dataset: Dataset,
    *,
    base_model: str,
    validation_dataset: Dataset | None = None,
    tuning_mode: TuningMode | None = None,
    epochs: int | None = None,
    learning_rate: float | None = None,
    batch_size: int | None = None,
    adapter_size: int | None = None,
    output_uri: str | None = None,
    custom_base_model: str | None = None,
    tuned_model_display_name: str = "",
    description: str = "",
    labels: Mapping[str, str] | None = None,
    export_last_checkpoint_only: bool = False,
    service_account: str | None = None,
    kms_key: str | None = None,
    max_cost: float | None = None,
    accept_unknown_cost: bool = False,
    agree: Callable[[Price], bool] | None = None,
    convert: bool = False,
    force_new: bool = False,
    replace_output: bool = False,
    tokenizer: LocalPath | None = None,
    session: Session | None = None,
) -> Job:
    """Submit a tuning job once, at an approved price.

    Before it sends the job, the function checks the dataset, compares the price with `max_cost`, looks for obstacles
    that would make the job fail, and uploads a local file. If a job with the same specification and data is running or
    has succeeded, it returns that job, with `created` False, instead of paying twice.

    Args:
        train_dataset: file or `gs://` object.
        base_model: ID in the catalog; `runner models ls` lists them.
        validation_dataset: file or object.
        tuning_mode: `FULL` or `PEFT_ADAPTER`; None is an adapter (LoRA) if the model supports it.
        epochs: passes over the data; None is 3.
        learning_rate: learning rate; None is the model's published value.
        batch_size: examples per step; None is the service's choice.
        adapter_size: LoRA rank: 1, 4, 8, 16 or 32.
        output_uri: `gs://` folder for the weights; None is a new folder in the outputs bucket.
        custom_base_model: `gs://` folder with the weights to start from.
        tuned_model_display_name: display name of job and model.
        description: description of the job.
        labels: labels of the job.
        export_last_checkpoint_only: keep only the last checkpoint.
        service_account: email address of the service account that the job runs as.
        kms_key: full name of a Cloud KMS key that encrypts the job's resources.
        max_cost: limit in US dollars; approves prices up to it, and refuses higher prices.
        accept_unknown_cost: continue even if no price is published.
        agree: if there is no `max_cost`, called with the price; returns whether to continue.
        convert: convert a file of another format, like `runner data convert`.
        force_new: submit even if a job with the same specification exists.
        replace_output: delete the results of another job from the output folder.
        tokenizer: see `check`.
        session: connection; None is the default one.

    Raises:
        ConfigurationError: the specification is wrong, or there are obstacles; the error lists all of them.
        DatasetError: the dataset has errors; carries every finding.
        CostRefusedError: the price is unknown, above `max_cost`, or not approved. Nothing was sent.
        AmbiguousSubmissionError: a job may or may not have been created; nothing was repeated.
        GoogleApiError, UnreachableError: the service refuses, or cannot be reached.

    >>> job = runner.tune(
    ...     "train.jsonl", base_model="meta/llama3_1@llama-3.1-8b-instruct", epochs=1, max_cost=1.00
    ... )
    >>> job.created
    True
    """
    spec = TuningJobSpec(
        base_model=base_model,
        training_dataset=str(named_dataset(train_dataset)),
        validation_dataset=None if validation_dataset is None else str(named_dataset(validation_dataset)),
        mode=tuning_mode,
        epochs=epochs,
        learning_rate=learning_rate,
        batch_size=batch_size,
        adapter_size=adapter_size,
        output_uri=output_uri,
        custom_base_model=custom_base_model,
        display_name=tuned_model_display_name,
        description=description,
        labels=dict(labels or {}),
        export_last_checkpoint_only=export_last_checkpoint_only,
        service_account=service_account,
        kms_key=kms_key,
    )
    terms = Terms(limit=max_cost, accept_unknown=accept_unknown_cost, agree=agree)
    request = Request(
        spec=spec,
        convert=convert,
        tokenizer=None if tokenizer is None else local_path(tokenizer),
        force_new=force_new,
        replace_output=replace_output,
    )
    connection = current(session)
    with offered(connection, request) as offer:
        sent = carry_out(offer, terms=terms)
    return Job(connection, sent.job, created=sent.created, estimate=offer.estimate)
