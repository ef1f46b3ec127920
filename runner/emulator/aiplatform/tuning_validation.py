"""Validation of new tuning jobs, with the service's messages as far as they are known."""

from __future__ import annotations

import re
import sqlite3
from typing import Any, get_args

from runner.catalog import Model, TuningMode, UnknownModelError, find_model, load_catalog
from runner.emulator.aiplatform.scope import Scope
from runner.emulator.errors import ApiError, invalid, not_here
from runner.emulator.storage import buckets

RANKS = {
    "ADAPTER_SIZE_ONE": 1,
    "ADAPTER_SIZE_TWO": 2,
    "ADAPTER_SIZE_FOUR": 4,
    "ADAPTER_SIZE_EIGHT": 8,
    "ADAPTER_SIZE_SIXTEEN": 16,
    "ADAPTER_SIZE_THIRTY_TWO": 32,
}
"""LoRA rank of each adapter size."""
MAX_DISPLAY_NAME = 128
MAX_EPOCHS = 100
"""Limit of this server; the service publishes none."""
SDK_RANKS = (1, 4, 8, 16, 32)
"""Ranks that Google's SDKs accept; the API's enumeration also has 2."""
DEFAULT_LEARNING_RATES: dict[str, float] = {"FULL": 2e-5, "PEFT_ADAPTER": 1e-4}
"""Google's published defaults of the managed service (tuning parameters guide, 2026-03)."""

_GS_URI = re.compile(r"gs://([a-z0-9][a-z0-9._-]{1,220}[a-z0-9])(?:/(.*))?\Z", re.DOTALL)
_MODEL_NAME = re.compile(r"(?:publishers/[a-z0-9-]+/models/|[a-z0-9-]+/)[^/@]+@[^/@]+\Z")
_LABEL = re.compile(r"[\w-]{0,64}\Z")
_OTHER_SPECS = ("distillationSpec", "preferenceOptimizationSpec")
_KMS_KEY = re.compile(r"projects/[^/]+/locations/([^/]+)/keyRings/[^/]+/cryptoKeys/[^/]+\Z")
_MULTI_REGIONS = {"US": "us-", "EU": "europe-", "ASIA": "asia-"}


def split_uri(uri: str, field: str) -> tuple[str, str]:
    """Return the bucket and object name (possibly empty) of a gs:// URI. Raises ApiError INVALID_ARGUMENT."""
    match = _GS_URI.match(uri)
    if match is None:
        raise invalid(f"Invalid Cloud Storage URI in {field}: '{uri}'. It must look like gs://BUCKET/OBJECT.")
    return match[1], match[2] or ""


def check_job(connection: sqlite3.Connection, scope: Scope, job: dict[str, Any]) -> tuple[Model, TuningMode]:
    """Check a create request; return the base model and the mode of the training.

    Raises:
        ApiError: INVALID_ARGUMENT or FAILED_PRECONDITION for the first error.
    """
    _check_kind(job)
    model = _check_model(scope, job)
    spec = job["supervisedTuningSpec"]
    mode = _check_mode(model, spec)
    _check_hyper_parameters(model, mode, spec.get("hyperParameters", {}))
    _check_uris(job)
    check_labels(job.get("labels", {}))
    if len(job.get("tunedModelDisplayName", "")) > MAX_DISPLAY_NAME:
        raise invalid(f"The tuned_model_display_name must be at most {MAX_DISPLAY_NAME} characters long.")
    _check_places(connection, scope, job)
    return model, mode


def _check_kind(job: dict[str, Any]) -> None:
    for field in job:
        if (field.endswith("TuningSpec") and field != "supervisedTuningSpec") or field in _OTHER_SPECS:
            raise not_here(f"The emulator does not support {field}: only supervised tuning of open models.")
    if job.get("preTunedModel"):
        raise invalid(
            "The base model name cannot be determined from pre_tuned_model. "
            "Continue from a tuned open model with base_model and custom_base_model."
        )
    if not job.get("baseModel"):
        raise invalid("The base_model field is required.")
    if "supervisedTuningSpec" not in job:
        raise invalid("One of the tuning_spec fields is required: supervised_tuning_spec.")


def _check_model(scope: Scope, job: dict[str, Any]) -> Model:
    name = job["baseModel"]
    try:
        model = find_model(name)
    except UnknownModelError as error:
        if not _MODEL_NAME.match(name):
            raise invalid(f"Invalid open source publisher model resource name: {name}") from error
        raise invalid(f"PublisherModel {_long_name(name)} does not exist.") from error
    if scope.location not in {location.id for location in load_catalog().locations}:
        raise invalid(f"PublisherModel {_long_name(name)} does not exist in location {scope.location}.")
    return model


def _long_name(name: str) -> str:
    if name.startswith("publishers/"):
        return name
    publisher, _, rest = name.partition("/")
    return f"publishers/{publisher}/models/{rest}"


def _check_mode(model: Model, spec: dict[str, Any]) -> TuningMode:
    modes = get_args(TuningMode)
    # The service's default is PEFT_ADAPTER (tuning parameters guide, 2026-03), also for models that do not support it.
    mode: TuningMode = next(
        (mode for mode in modes if spec.get("tuningMode") == f"TUNING_MODE_{mode}"),
        "PEFT_ADAPTER",
    )
    if mode not in model.modes:
        offered = ", ".join(model.modes)
        raise invalid(
            f"Tuning mode {mode} is not supported for base model {model.id}. The supported tuning modes are [{offered}]"
        )
    return mode


def _check_hyper_parameters(model: Model, mode: TuningMode, parameters: dict[str, Any]) -> None:
    if "learningRateMultiplier" in parameters:
        if "learningRate" in parameters:
            raise invalid("Only one of learning_rate and learning_rate_multiplier can be set.")
        raise invalid(f"Learning rate multiplier is not supported for base model {model.id}.")
    epochs = int(parameters.get("epochCount", 1))
    if not 1 <= epochs <= MAX_EPOCHS:
        raise invalid(f"Invalid epoch_count: {epochs}. It must be between 1 and {MAX_EPOCHS}.")
    rate = parameters.get("learningRate", 1e-4)
    if not 0 < rate <= 1:
        raise invalid(f"Invalid learning_rate: {rate}. It must be greater than 0 and at most 1.")
    if int(parameters.get("batchSize", 1)) < 1:
        raise invalid(f"Invalid batch_size: {parameters['batchSize']}. It must be positive.")
    if "adapterSize" in parameters:
        rank = RANKS[parameters["adapterSize"]]
        if mode == "FULL":
            raise invalid("The adapter_size field is only supported for tuning mode PEFT_ADAPTER.")
        if rank not in SDK_RANKS:
            sizes = ", ".join(map(str, SDK_RANKS))
            raise invalid(f"Unsupported adapter size: {rank}. The supported sizes are [{sizes}]")


def _check_uris(job: dict[str, Any]) -> None:
    spec = job["supervisedTuningSpec"]
    if not spec.get("trainingDatasetUri"):
        raise invalid("The training_dataset_uri field is required.")
    if not job.get("outputUri"):
        raise invalid("The output_uri field is required for this model.")
    for field, uri in (
        ("training_dataset_uri", spec["trainingDatasetUri"]),
        ("validation_dataset_uri", spec.get("validationDatasetUri")),
    ):
        if uri is not None and not split_uri(uri, field)[1].strip("/"):
            raise invalid(f"Invalid Cloud Storage URI in {field}: '{uri}' names no object.")
    split_uri(job["outputUri"], "output_uri")
    if "customBaseModel" in job:
        split_uri(job["customBaseModel"], "custom_base_model")


def check_labels(labels: dict[str, str]) -> None:
    """Check the labels of any resource. Raises ApiError INVALID_ARGUMENT."""
    if len(labels) > 64:
        raise invalid("Too many labels: at most 64 are allowed.")
    for key, value in labels.items():
        if not key or any(not _LABEL.match(text) or text != text.lower() for text in (key, value)):
            raise invalid(
                f"Invalid label '{key}': '{value}'. Keys and values have at most 64 lowercase letters, digits, "
                "underscores and dashes."
            )


def _check_places(connection: sqlite3.Connection, scope: Scope, job: dict[str, Any]) -> None:
    key = job.get("encryptionSpec", {}).get("kmsKeyName")
    if key:
        match = _KMS_KEY.match(key)
        if match is None:
            raise invalid(f"Invalid KMS key name: '{key}'.")
        if scope.location == "global":
            raise ApiError("FAILED_PRECONDITION", "CMEK is not supported for tuning jobs in location global.")
        if match[1] != scope.location:
            raise ApiError("FAILED_PRECONDITION", f"The KMS key {key} must be in the location {scope.location}.")
    bucket = buckets.find(connection, split_uri(job["outputUri"], "output_uri")[0])
    if bucket is None or scope.location == "global":
        return
    place = str(bucket["location"]).upper()
    multi = _MULTI_REGIONS.get(place)
    if place != scope.location.upper() and not (multi and scope.location.startswith(multi)):
        raise ApiError(
            "FAILED_PRECONDITION",
            f"The output_uri bucket {bucket['name']} is in {place}, but the tuning job runs in {scope.location}. "
            "Use a bucket in the job's location.",
        )
