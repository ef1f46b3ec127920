"""The contents of a `TuningJob` manifest: the only source of the checks and of the JSON Schema."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from runner.jobs.specification import MAX_EPOCHS
from runner.prices import is_dollars

SCHEMA_ID = "https://open-model-tuning.invalid/schemas/tuning-job-v1.json"
"""An identifier, not a web address: `runner schema` prints the document."""
MAX_SWEEP_JOBS = 256

_NAME = r"^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$"
_ADDRESS = r"^gs://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9](/.*)?$"
_CAUSE = r"^[a-z][a-z0-9-]{0,62}$"
_LABEL_KEY = r"^[a-z][a-z0-9_-]{0,62}$"
_LABEL_VALUE = r"^[a-z0-9_-]{0,63}$"
_MACHINE = r"^[A-Za-z0-9][A-Za-z0-9_-]*$"
_RESOURCE = r"^[\w.:/@ -]+$"
PATTERNS = {
    _NAME: "a name: a-z, 0-9 and -, from a letter on, at most 40 characters",
    _ADDRESS: "an address in Cloud Storage: gs://BUCKET/PATH",
    _CAUSE: "the name of another job",
    _MACHINE: "the name of a type, such as g2-standard-12 or NVIDIA_L4",
    _RESOURCE: "an id or a name",
    _LABEL_KEY: "the key of a label: a-z, 0-9, _ and -, from a letter on, at most 63 characters",
    _LABEL_VALUE: "the value of a label: a-z, 0-9, _ and -, at most 63 characters",
}
"""Describes what each pattern requires."""


def _whole_number(value: Any) -> Any:
    """Refuse values that only equal an integer: true, 8.0."""
    if isinstance(value, bool | float):
        raise PydanticCustomError("int_type", "a whole number is wanted")
    return value


def _dollars(value: Any) -> Any:
    """Refuse texts, negative numbers, NaN and infinity."""
    if not is_dollars(value):
        raise PydanticCustomError("dollars", "an amount is wanted")
    return value


Name = Annotated[str, Field(pattern=_NAME, max_length=40)]
Folder = Annotated[str, Field(pattern=_ADDRESS, max_length=1200)]
Model = Annotated[str, Field(min_length=1, max_length=200)]
Machine = Annotated[str, Field(pattern=_MACHINE, max_length=100)]
Resource = Annotated[str, Field(pattern=_RESOURCE, max_length=300)]
Dollars = Annotated[float, Field(ge=0, le=10_000_000, allow_inf_nan=False), BeforeValidator(_dollars)]
Epochs = Annotated[int, Field(ge=1, le=MAX_EPOCHS)]
Rate = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
AdapterSize = Annotated[Literal[1, 4, 8, 16, 32], BeforeValidator(_whole_number)]
BatchSize = Annotated[int, Field(ge=1, le=100_000)]
Mode = Literal["FULL", "PEFT_ADAPTER"]
LabelKey = Annotated[str, Field(pattern=_LABEL_KEY)]
LabelValue = Annotated[str, Field(pattern=_LABEL_VALUE)]


class _Strict(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel,
        extra="forbid",
        strict=True,
        frozen=True,
        validate_by_name=False,
        validate_by_alias=True,
        use_attribute_docstrings=True,
    )


class Metadata(_Strict):
    """The name and labels of this job."""

    name: Name
    """The permanent name of the job: the same name with other content is another run of the same job."""
    labels: dict[LabelKey, LabelValue] = Field(default_factory=dict, max_length=50)
    """Labels of the tuning job. A label can divide slots fairly: `runner queue run --fair-by`."""
    revision: Annotated[int, Field(ge=1)] = 1
    """Increase it to run the same job again."""


class Hyperparameters(_Strict):
    """Omitted values come from the published starting point for the model and mode in the catalog."""

    epochs: Epochs | None = None
    """Passes over the data; 3 if omitted."""
    learning_rate: Rate | None = None
    adapter_size: AdapterSize | None = None
    """LoRA rank, only for PEFT_ADAPTER."""
    batch_size: BatchSize | None = None
    """Examples per step; if omitted, the service chooses."""


class Data(_Strict):
    """JSON Lines files: relative to the manifest, or in Cloud Storage."""

    train: Annotated[str, Field(min_length=1, max_length=1200)]
    """A path relative to the manifest, or gs://…"""
    validation: Annotated[str, Field(min_length=1, max_length=1200)] | None = None


class Retry(_Strict):
    """What to do if the job fails. A repeated job is billed again."""

    attempts: Annotated[int, Field(ge=0, le=5)] = 0
    """Number of repetitions after the first attempt."""
    on: Literal["platform", "any"] = "platform"
    """`platform`: only failures of the service, or missing capacity."""


class Choices(_Strict):
    """Values to try."""

    base_model: Annotated[list[Model], Field(min_length=1)] | None = None
    mode: Annotated[list[Mode], Field(min_length=1)] | None = None
    epochs: Annotated[list[Epochs], Field(min_length=1)] | None = None
    learning_rate: Annotated[list[Rate], Field(min_length=1)] | None = None
    adapter_size: Annotated[list[AdapterSize], Field(min_length=1)] | None = None
    batch_size: Annotated[list[BatchSize], Field(min_length=1)] | None = None

    def given(self) -> dict[str, list[Any]]:
        """Return the existing lists by field name, in the order of this class."""
        return {name: value for name in type(self).model_fields if (value := getattr(self, name)) is not None}


class Sweep(_Strict):
    """One manifest with many jobs: every combination of `grid`, each with every row of `paired`."""

    grid: Choices = Field(default_factory=Choices)
    paired: Choices = Field(default_factory=Choices)
    """Lists of equal length: the first values together, the second values together, …"""
    max_cost: Dollars
    """In US dollars, for all jobs of the sweep together."""


class Deploy(_Strict):
    """Serve the tuned model after the job has succeeded. It is billed by the hour until it is undeployed."""

    max_cost_per_hour: Dollars
    """In US dollars; a machine that costs more, or whose price is unknown, is refused."""
    machine_type: Machine | None = None
    accelerator_type: Machine | None = None
    accelerator_count: Annotated[int, Field(ge=1, le=16)] | None = None
    endpoint: Resource | None = None
    """ID of an existing endpoint; if omitted, a new one is created."""


class Evaluation(_Strict):
    """A condition for traffic to the model: a maximum validation loss, or better answers than those of a base."""

    metric: Literal["validationLoss", "chrF", "ROUGE-L", "exact match", "token agreement"] = "validationLoss"
    """`validationLoss` is the last value that the service reports; without a value, the model is not deployed. The
    others compare answers: the model is deployed, answers questions before it gets traffic, and is undeployed if the
    condition is not met."""
    maximum: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Maximum validation loss."""
    questions: Annotated[str | None, Field(pattern=_ADDRESS, max_length=1200)] = None
    """JSON Lines with held-out questions and answers in Cloud Storage; if omitted, the job's validation file."""
    base_model: Resource | None = None
    """A model that Google manages, to compare with."""
    base_endpoint: Resource | None = None
    """ID of an endpoint to compare with."""
    require: Literal["better", "not-worse"] = "better"
    """Compared with the base, with a 95% interval."""
    limit: Annotated[int, Field(ge=5, le=10_000)] = 200
    """Maximum number of questions: the first ones of the file."""
    max_tokens: Annotated[int, Field(ge=1, le=32_768)] = 512
    """Maximum length of an answer: a model that does not stop costs time and, if Google manages it, money."""

    @model_validator(mode="after")
    def _whole(self) -> Evaluation:
        bases = (self.base_model is not None) + (self.base_endpoint is not None)
        if self.metric == "validationLoss":
            if self.maximum is None:
                raise ValueError("maximum is missing: the highest validation loss that opens the gate")
            if bases or self.questions is not None:
                raise ValueError("questions, baseModel and baseEndpoint go with a metric of answers, such as chrF")
        elif bases != 1:
            raise ValueError("give one of baseModel and baseEndpoint: what to compare with")
        elif self.maximum is not None:
            raise ValueError("maximum goes with metric validationLoss")
        return self


class Spec(_Strict):
    """The specification of the job."""

    base_model: Model | None = None
    """ID from the catalog: `runner models ls`. Optional with `from`."""
    custom_base_model: Folder | None = None
    """Folder of weights with the base model's architecture, from which the job continues."""
    from_: Annotated[str | None, Field(alias="from", pattern=_CAUSE)] = None
    """Name of another manifest, or of one job of a sweep: continue from its final weights after it has succeeded."""
    mode: Mode | None = None
    """If omitted, PEFT_ADAPTER if the model supports it."""
    hyperparameters: Hyperparameters = Field(default_factory=Hyperparameters)
    data: Data
    output: Folder | None = None
    """Folder for the weights; if omitted, a folder in the outputs bucket that is different for every run."""
    export_last_checkpoint_only: bool = False
    description: Annotated[str, Field(max_length=1000)] = ""
    service_account: Annotated[str, Field(max_length=320)] | None = None
    kms_key: Annotated[str, Field(max_length=500)] | None = None
    max_cost: Dollars | None = None
    """In US dollars. A job that can cost more, or whose price is unknown, is refused."""
    priority: Annotated[int, Field(ge=-100, le=100)] = 0
    """Jobs with higher values leave the queue first."""
    retry: Retry = Field(default_factory=Retry)
    sweep: Sweep | None = None
    deploy: Deploy | None = None
    evaluation: Evaluation | None = None


class TuningJobManifest(_Strict):
    """A file with one tuning job, or a sweep of jobs."""

    api_version: Literal["open-model-tuning/v1"]
    kind: Literal["TuningJob"]
    metadata: Metadata
    spec: Spec


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a manifest, draft 2020-12."""
    body = TuningJobManifest.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": SCHEMA_ID, **body}
