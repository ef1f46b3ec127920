"""The specification of a tuning job, checked against the catalog before anything is sent."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from runner.catalog import TuningMode, UnknownModelError, find_model, load_catalog
from runner.catalog.models import Model
from runner.environment import Environment
from runner.errors import ConfigurationError, require_sound
from runner.gcp.storage import parse_gs_uri
from runner.wording import camel

ADAPTER_SIZES = (1, 4, 8, 16, 32)
"""LoRA ranks that Google's SDKs accept."""
MAX_EPOCHS = 100
"""The service refuses more."""
DEFAULT_EPOCHS = 3
"""Defaults from the specification's example and Google's published starting points."""
NAMING = frozenset({"display_name", "description", "labels"})
"""Fields that only name a job. A change of these does not make it another job."""
DATASETS = frozenset({"training_dataset", "validation_dataset"})
"""Fields whose contents count, not only their addresses."""
_MAX_DISPLAY_NAME = 128
_MAX_LABELS = 60  # 64 in total; this tool adds some
_LABEL_KEY = re.compile(r"[^\W_][\w-]{0,62}")
_LABEL_VALUE = re.compile(r"[\w-]{0,63}")
"""Letters of any script are allowed, as at Google; uppercase letters are refused separately."""
_RESERVED_PREFIX = "runner-"
_SERVICE_ACCOUNT = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_KMS_KEY = re.compile(r"projects/[^/]+/locations/([^/]+)/keyRings/[^/]+/cryptoKeys/[^/]+")


_WORDS = {"output_uri": "output", "kms_key": "KMS key"}
"""Fields that have another name in messages."""


@dataclass(frozen=True, slots=True)
class SpecProblem:
    """An error in one field of a specification, or in its project or location."""

    field: str
    """A field of `TuningJobSpec`, `project`, `location` or `outputs_bucket`."""
    message: str
    key: str = ""
    """The label."""

    def __str__(self) -> str:
        name = f"label {self.key!r}" if self.key else _WORDS.get(self.field, self.field.replace("_", " "))
        return f"{name}: {self.message}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningJobSpec:
    """One supervised tuning job. For a value of None, the catalog or the service chooses."""

    base_model: str
    """ID, alias or long form from the catalog."""
    training_dataset: str
    """`gs://…/train.jsonl`."""
    mode: TuningMode | None = None
    """None selects PEFT_ADAPTER if the model supports it, otherwise FULL."""
    validation_dataset: str | None = None
    output_uri: str | None = None
    """`gs://` folder; None selects one in the outputs bucket, named after the job's fingerprint."""
    epochs: int | None = None
    learning_rate: float | None = None
    """None selects the catalog's starting point for the model and mode."""
    adapter_size: int | None = None
    """LoRA rank, only for PEFT_ADAPTER; None selects the catalog's."""
    batch_size: int | None = None
    """Examples per step; for None, the service chooses."""
    display_name: str = ""
    description: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    custom_base_model: str | None = None
    """`gs://` folder of weights with the base model's architecture, from which the job continues."""
    export_last_checkpoint_only: bool = False
    service_account: str | None = None
    kms_key: str | None = None

    def resolved(self) -> TuningJobSpec:
        """Return the specification with the model's canonical ID and every default of the catalog.

        Raises:
            UnknownModelError: the base model is not in the catalog.
        """
        model = find_model(self.base_model)
        mode = self.mode or default_mode(model)
        limits = model.modes.get(mode)
        adapter = self.adapter_size
        if mode == "PEFT_ADAPTER" and adapter is None and limits is not None:
            adapter = limits.adapter_size
        rate = self.learning_rate
        if rate is None and limits is not None:
            rate = limits.learning_rate
        return dataclasses.replace(
            self,
            base_model=model.id,
            mode=mode,
            epochs=DEFAULT_EPOCHS if self.epochs is None else self.epochs,
            learning_rate=None if rate is None else float(rate),  # 1 and 1.0 are the same job
            adapter_size=adapter,
        )

    def validate(self, environment: Environment) -> list[SpecProblem]:
        """Return all errors; [] if there are none. Never raises."""
        problems: list[SpecProblem] = []
        try:
            model = find_model(self.base_model)
        except UnknownModelError as error:
            message = f"{self.base_model[:100]!r} is not in the catalog ({error.hint})"
            problems.append(SpecProblem("base_model", message))
        else:
            problems += _mode_problems(self, model)
        problems += _location_problems(self, environment)
        problems += _number_problems(self)
        problems += _address_problems(self, environment)
        problems += _text_problems(self)
        return problems

    def given(self) -> dict[str, Any]:
        """Return every field that is set by its name, as arguments of `tuning_jobs.create`."""
        body = dataclasses.asdict(self)
        return {key: value for key, value in body.items() if value not in (None, "", {}, False)}

    def to_json(self) -> dict[str, Any]:
        """Return every field that is set, in the API's spelling of names."""
        return {camel(key): value for key, value in self.given().items()}

    def work(self) -> dict[str, Any]:
        """Return every field that determines what the job does, set or not, with the API's names.

        This must contain every field that is not in `NAMING` or `DATASETS`. A job is billed once for each different
        outcome; if a field is missing here, two different jobs count as one.
        """
        work = {
            camel(name): value
            for name, value in dataclasses.asdict(self).items()
            if name not in NAMING and name not in DATASETS
        }
        folders = {key: (work[key] or "").rstrip("/") for key in ("customBaseModel", "outputUri")}
        return {**work, **folders, **{key: work[key] or "" for key in ("serviceAccount", "kmsKey")}}


def labels_of(pairs: Iterable[str]) -> dict[str, str]:
    """Return the labels in `KEY=VALUE` texts. Raises ConfigurationError with all invalid texts."""
    given = list(pairs)
    require_sound([f"label {pair!r} is not KEY=VALUE" for pair in given if "=" not in pair])
    return dict(pair.split("=", 1) for pair in given)


def check(spec: TuningJobSpec, environment: Environment) -> None:
    """Return normally for a valid specification. Raises ConfigurationError with all errors."""
    require_sound([str(problem) for problem in spec.validate(environment)])


def default_mode(model: Model) -> TuningMode:
    """Return PEFT_ADAPTER, which is cheaper, if the model supports it, otherwise FULL."""
    return "PEFT_ADAPTER" if "PEFT_ADAPTER" in model.modes else "FULL"


def _mode_problems(spec: TuningJobSpec, model: Model) -> list[SpecProblem]:
    problems: list[SpecProblem] = []
    mode = spec.mode or default_mode(model)
    if mode not in ("FULL", "PEFT_ADAPTER"):
        problems.append(SpecProblem("mode", f"{mode!r} is neither FULL nor PEFT_ADAPTER"))
    elif mode not in model.modes:
        offered = ", ".join(model.modes)
        problems.append(SpecProblem("mode", f"{model.name} cannot be tuned in mode {mode}, only {offered}"))
    if spec.adapter_size is not None:
        if mode == "FULL":
            problems.append(SpecProblem("adapter_size", "only mode PEFT_ADAPTER has one"))
        elif spec.adapter_size not in ADAPTER_SIZES:
            sizes = ", ".join(map(str, ADAPTER_SIZES))
            problems.append(SpecProblem("adapter_size", f"{spec.adapter_size} is not one of {sizes}"))
    return problems


def _location_problems(spec: TuningJobSpec, environment: Environment) -> list[SpecProblem]:
    problems: list[SpecProblem] = []
    known = [location.id for location in load_catalog().locations]
    if environment.location not in known:
        problems.append(
            SpecProblem(
                "location", f"open models are not tuned in {environment.location!r}, only in {', '.join(known)}"
            )
        )
    if not environment.project:
        problems.append(SpecProblem("project", "not set; give --project or RUNNER_PROJECT"))
    if spec.kms_key:
        match = _KMS_KEY.fullmatch(spec.kms_key)
        if match is None:
            problems.append(SpecProblem("kms_key", "must be projects/P/locations/L/keyRings/R/cryptoKeys/K"))
        elif environment.location == "global":
            problems.append(SpecProblem("kms_key", "location global takes none; choose a region"))
        elif match[1] != environment.location:
            problems.append(SpecProblem("kms_key", f"it is in {match[1]}, the job would run in {environment.location}"))
    return problems


def _number_problems(spec: TuningJobSpec) -> list[SpecProblem]:
    problems: list[SpecProblem] = []
    for name, value in (("epochs", spec.epochs), ("batch_size", spec.batch_size)):
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            problems.append(SpecProblem(name, f"{value!r} is not a whole number from 1"))
        elif name == "epochs" and value is not None and value > MAX_EPOCHS:
            problems.append(SpecProblem("epochs", f"{value} are more than the {MAX_EPOCHS} that the service accepts"))
    rate = spec.learning_rate
    if rate is not None and not (math.isfinite(rate) and 0 < rate <= 1):
        problems.append(SpecProblem("learning_rate", f"{rate!r} is not above 0 and at most 1"))
    return problems


def _address_problems(spec: TuningJobSpec, environment: Environment) -> list[SpecProblem]:
    problems: list[SpecProblem] = []
    files = (("training_dataset", spec.training_dataset), ("validation_dataset", spec.validation_dataset))
    folders = (("output_uri", spec.output_uri), ("custom_base_model", spec.custom_base_model))
    for name, uri in files:
        if uri is None:
            continue
        problem = _uri_problem(uri)
        if not problem and (not parse_gs_uri(uri)[1] or uri.endswith("/")):
            problem = f"{uri!r} names no object"
        if problem:
            problems.append(SpecProblem(name, problem))
    for name, uri in folders:
        if uri is not None and (problem := _uri_problem(uri)):
            problems.append(SpecProblem(name, problem))
    if spec.output_uri is None and not environment.outputs_bucket:
        problems.append(SpecProblem("outputs_bucket", "not set; give RUNNER_OUTPUTS_BUCKET, or an output address"))
    if spec.validation_dataset is not None and spec.validation_dataset == spec.training_dataset:
        problems.append(SpecProblem("validation_dataset", "is the training dataset"))
    return problems


def _uri_problem(uri: str) -> str:
    try:
        parse_gs_uri(uri)
    except ConfigurationError as error:
        return error.message
    return ""


def _text_problems(spec: TuningJobSpec) -> list[SpecProblem]:
    problems: list[SpecProblem] = []
    if len(spec.display_name) > _MAX_DISPLAY_NAME:
        problems.append(
            SpecProblem("display_name", f"{len(spec.display_name)} characters, at most {_MAX_DISPLAY_NAME} are allowed")
        )
    if len(spec.labels) > _MAX_LABELS:
        problems.append(SpecProblem("labels", f"{len(spec.labels)} are given, at most {_MAX_LABELS} are allowed"))
    for key, value in spec.labels.items():
        if not _LABEL_KEY.fullmatch(key) or key != key.lower():
            problems.append(
                SpecProblem(
                    "labels", "keys start with a lower-case letter or a digit; then such, _ and -, 63 at most", key
                )
            )
        elif key.startswith(_RESERVED_PREFIX) or key == "managed-by":
            problems.append(SpecProblem("labels", "this name is kept for this tool's own use", key))
        if not _LABEL_VALUE.fullmatch(value) or value != value.lower():
            problems.append(
                SpecProblem(
                    "labels", f"value {value!r} may hold only lower-case letters, digits, _ and -, 63 at most", key
                )
            )
    if spec.service_account and not _SERVICE_ACCOUNT.fullmatch(spec.service_account):
        problems.append(SpecProblem("service_account", f"{spec.service_account!r} is not an e-mail address"))
    return problems
