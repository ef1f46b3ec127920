"""Every field that a user can set for a job: whether a change of it is another job, why, and how to change it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from tests.jobs.manifests.folder import MODEL

OTHER_MODEL = "meta/llama3_1@llama-3.1-8b"
_KEY = "projects/{project}/locations/us-central1/keyRings/ring/cryptoKeys/"
_ACCOUNT = "@{project}.iam.gserviceaccount.com"


@dataclass(frozen=True, slots=True)
class Change:
    """A field, and two valid values of it. `{outputs}`, `{datasets}` and `{project}` in them are filled in."""

    field: str
    """Dotted below a manifest."""
    another_job: bool
    why: str
    first: Any
    second: Any
    sent: str = ""
    """Where in the request's document it is; "" for what is not sent."""
    besides: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Other fields of the manifest's `spec` that it needs, the same for both values."""

    def __str__(self) -> str:
        return self.field


_SUPERVISED = "supervisedTuningSpec"
_PARAMETERS = f"{_SUPERVISED}.hyperParameters"

SPECIFICATION = (
    Change("base_model", True, "another model is tuned", MODEL, OTHER_MODEL, "baseModel"),
    Change(
        "training_dataset",
        True,
        "other examples are learned, and their tokens are billed",
        "gs://{datasets}/train.jsonl",
        "gs://{datasets}/other.jsonl",
        f"{_SUPERVISED}.trainingDatasetUri",
    ),
    Change(
        "mode", True, "other weights are trained, at another price", "PEFT_ADAPTER", "FULL", f"{_SUPERVISED}.tuningMode"
    ),
    Change(
        "validation_dataset",
        True,
        "the job reports other losses",
        None,
        "gs://{datasets}/other.jsonl",
        f"{_SUPERVISED}.validationDatasetUri",
    ),
    Change("output_uri", True, "the weights are wanted elsewhere", None, "gs://{outputs}/mine", "outputUri"),
    Change("epochs", True, "each epoch is billed and changes the weights", 1, 2, f"{_PARAMETERS}.epochCount"),
    Change("learning_rate", True, "it changes the weights", 1e-4, 2e-5, f"{_PARAMETERS}.learningRate"),
    Change("adapter_size", True, "it changes the weights", 8, 16, f"{_PARAMETERS}.adapterSize"),
    Change("batch_size", True, "it changes the weights", None, 4, f"{_PARAMETERS}.batchSize"),
    Change("display_name", False, "it only names the job", "one", "two", "tunedModelDisplayName"),
    Change("description", False, "it only describes the job", "", "What for", "description"),
    Change("labels", False, "they only sort jobs", {}, {"team": "search"}, "labels.team"),
    Change(
        "custom_base_model",
        True,
        "tuning starts from other weights",
        None,
        "gs://{outputs}/weights",
        "customBaseModel",
    ),
    Change(
        "export_last_checkpoint_only",
        True,
        "other checkpoints are kept",
        False,
        True,
        f"{_SUPERVISED}.exportLastCheckpointOnly",
    ),
    Change(
        "service_account", True, "another account reads and writes", None, f"tuning-account{_ACCOUNT}", "serviceAccount"
    ),
    Change(
        "kms_key", True, "the weights are encrypted with another key", None, f"{_KEY}one", "encryptionSpec.kmsKeyName"
    ),  # as the SDK spells it
)
"""One row for each field of `TuningJobSpec`."""

_LIMIT = "it limits what the job may cost and changes nothing in the job"
_QUEUE = "it changes when the job starts, not what the job does"
_RETRY = "it changes what happens after a failure"
_DEPLOY = "it changes what happens after the job"
_GATE = "it changes what happens between the job and its traffic"
_SERVED = {"deploy": {"maxCostPerHour": 9}}
_COMPARED = {**_SERVED, "evaluation": {"metric": "chrF", "baseModel": MODEL}}


def _swept(name: str, first: Any, second: Any) -> Iterator[Change]:
    """Yield the rows of the values that a sweep tries for one field."""
    besides: dict[str, Any] = {"sweep": {"maxCost": 99}}
    why = "each value is a job of its own, whose name says the value"
    if name in ("baseModel", "mode"):
        besides[name] = None
    for kind in ("grid", "paired"):
        yield Change(f"spec.sweep.{kind}.{name}", True, why, [first], [second], besides=besides)


MANIFEST = (
    Change("metadata.name", True, "the name is the job", "one", "two"),
    Change("metadata.labels", False, "they only sort jobs", {}, {"team": "search"}),
    Change("metadata.revision", True, "that is what it is for", 1, 2),
    Change("spec.baseModel", True, "another model is tuned", MODEL, OTHER_MODEL),
    Change("spec.customBaseModel", True, "tuning starts from other weights", None, "gs://{outputs}/weights"),
    Change("spec.from", True, "tuning starts from other weights", None, "cause"),
    Change("spec.mode", True, "other weights are trained, at another price", "PEFT_ADAPTER", "FULL"),
    Change("spec.hyperparameters.epochs", True, "each epoch is billed and changes the weights", 1, 2),
    Change("spec.hyperparameters.learningRate", True, "it changes the weights", 1e-4, 2e-5),
    Change("spec.hyperparameters.adapterSize", True, "it changes the weights", 8, 16),
    Change("spec.hyperparameters.batchSize", True, "it changes the weights", None, 4),
    Change("spec.data.train", True, "other examples are learned", "train.jsonl", "other.jsonl"),
    Change("spec.data.validation", True, "the job reports other losses", None, "validation.jsonl"),
    Change("spec.output", True, "the weights are wanted elsewhere", None, "gs://{outputs}/mine"),
    Change("spec.exportLastCheckpointOnly", True, "other checkpoints are kept", False, True),
    Change("spec.description", False, "it only describes the job", "", "What for"),
    Change("spec.serviceAccount", True, "another account reads and writes", None, f"tuning-account{_ACCOUNT}"),
    Change("spec.kmsKey", True, "the weights are encrypted with another key", None, f"{_KEY}one"),
    Change("spec.maxCost", False, _LIMIT, None, 99),
    Change("spec.priority", False, _QUEUE, 0, 5),
    Change("spec.retry.attempts", False, _RETRY, 0, 1),
    Change("spec.retry.on", False, _RETRY, "platform", "any"),
    *_swept("baseModel", MODEL, OTHER_MODEL),
    *_swept("mode", "FULL", "PEFT_ADAPTER"),
    *_swept("epochs", 1, 2),
    *_swept("learningRate", 1e-4, 2e-5),
    *_swept("adapterSize", 8, 16),
    *_swept("batchSize", 2, 4),
    Change("spec.sweep.maxCost", False, _LIMIT, 98, 99, besides={"sweep": {"grid": {"batchSize": [4]}}}),
    Change("spec.deploy.maxCostPerHour", False, _DEPLOY, 8, 9),
    Change("spec.deploy.machineType", False, _DEPLOY, None, "g2-standard-12", besides=_SERVED),
    Change("spec.deploy.acceleratorType", False, _DEPLOY, None, "NVIDIA_L4", besides=_SERVED),
    Change("spec.deploy.acceleratorCount", False, _DEPLOY, None, 1, besides=_SERVED),
    Change("spec.deploy.endpoint", False, _DEPLOY, None, "77", besides=_SERVED),
    Change("spec.evaluation.metric", False, _GATE, "chrF", "ROUGE-L", besides=_COMPARED),
    Change("spec.evaluation.maximum", False, _GATE, 1.5, 2.5, besides=_SERVED),
    Change("spec.evaluation.questions", False, _GATE, None, "gs://{datasets}/q.jsonl", besides=_COMPARED),
    Change("spec.evaluation.baseModel", False, _GATE, MODEL, OTHER_MODEL, besides=_COMPARED),
    Change(
        "spec.evaluation.baseEndpoint",
        False,
        _GATE,
        "77",
        "78",
        besides={**_SERVED, "evaluation": {"metric": "chrF"}},
    ),
    Change("spec.evaluation.require", False, _GATE, "better", "not-worse", besides=_COMPARED),
    Change("spec.evaluation.limit", False, _GATE, 200, 100, besides=_COMPARED),
    Change("spec.evaluation.maxTokens", False, _GATE, 512, 100, besides=_COMPARED),
)
"""One row for each value of a manifest, by its path."""


def paths_of(model: type[BaseModel], above: str = "") -> Iterator[str]:
    """Yield the dotted path of every value of a model, those of nested models included."""
    for name, described in model.model_fields.items():
        path = f"{above}{described.alias or name}"
        nested = [item for item in _types_in(described.annotation) if issubclass(item, BaseModel)]
        if nested:
            for item in nested:
                yield from paths_of(item, f"{path}.")
        else:
            yield path


def _types_in(annotation: Any) -> Iterator[type]:
    if isinstance(annotation, type) and not hasattr(annotation, "__args__"):
        yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from _types_in(inner)


def filled(value: Any, names: dict[str, str]) -> Any:
    """Return a value with the names of buckets and of the project in place of `{outputs}` and the like."""
    if isinstance(value, str):
        return value.format_map(names)
    return value
