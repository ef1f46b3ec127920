"""A new job, which is completely in the page's address, so that users can go back to every step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from runner.catalog import find_model
from runner.catalog.models import Model, TuningMode
from runner.console.pages import address
from runner.console.state import Console, Uploads
from runner.errors import ConfigurationError, gathered, require_sound
from runner.gcp.storage import parse_gs_uri
from runner.jobs.repeating.cloning import changed
from runner.jobs.specification import TuningJobSpec, default_mode, labels_of
from runner.jobs.submitting.offers import Request as Wanted

STEPS = (
    ("/tuning/create", "Model and method"),
    ("/tuning/create/data", "Dataset"),
    ("/tuning/create/parameters", "Parameters"),
    ("/tuning/create/review", "Review and start"),
)
NUMBERS = ("epochs", "learning_rate", "adapter_size", "batch_size")
_SOUND = ("gs://datasets/training", "gs://datasets/validation")
"""Placeholders for datasets while the other fields are checked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """The fields of the form, as texts."""

    base_model: str = ""
    mode: str = ""
    custom_base_model: str = ""
    training: str = ""
    """`gs://…`, or the name of an upload."""
    validation: str = ""
    convert: str = ""
    """`1` converts data in other formats."""
    epochs: str = ""
    learning_rate: str = ""
    adapter_size: str = ""
    batch_size: str = ""
    display_name: str = ""
    output_uri: str = ""
    label: str = ""
    """`KEY=VALUE`, separated by spaces."""
    final_only: str = ""
    description: str = ""
    service_account: str = ""
    kms_key: str = ""
    force_new: str = ""

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Draft:
        """Return the draft in an address or a form."""
        names = [item.name for item in fields(cls)]
        return cls(**{name: str(given[name]).strip() for name in names if isinstance(given.get(name), str)})

    @classmethod
    def of_specification(cls, spec: TuningJobSpec) -> Draft:
        """Return the draft for repeating a job."""
        given = asdict(spec) | {
            "training": spec.training_dataset,
            "validation": spec.validation_dataset,
            "label": " ".join(f"{key}={value}" for key, value in spec.labels.items()),
            "final_only": "1" if spec.export_last_checkpoint_only else "",
        }
        names = [item.name for item in fields(cls) if given.get(item.name) is not None]
        return cls(**{name: str(given[name]) for name in names})

    @property
    def values(self) -> dict[str, str]:
        """Return the fields that are set."""
        return {item.name: value for item in fields(self) if (value := getattr(self, item.name))}

    def at(self, path: str, **others: str) -> str:
        """Return the address of a step with these fields."""
        return address(path, **{**self.values, **others})

    @property
    def model(self) -> Model:
        """Return the base model. Raises UnknownModelError."""
        return find_model(self.base_model)

    @property
    def tuning_mode(self) -> TuningMode:
        """Return the mode, by default the model's. Raises UnknownModelError, ConfigurationError."""
        if not self.mode:
            return default_mode(self.model)
        for mode in self.model.modes:
            if mode == self.mode:
                return mode
        message = f"{self.model.name} is not tuned in mode {self.mode}, only in {', '.join(self.model.modes)}"
        raise ConfigurationError(message)

    def name_of(self, console: Console, source: str) -> str:
        """Return the name of a dataset for a command line."""
        return console.uploads.path(source).name if Uploads.is_one(source) else source

    def specification(self, console: Console) -> TuningJobSpec:
        """Return the specification. Raises ConfigurationError with all errors."""

        def place(source: str) -> str:
            if Uploads.is_one(source):
                return str(console.uploads.path(source))
            # A form can name an upload or an object, but never a file of this machine.
            parse_gs_uri(source)
            return source

        if not self.training:
            raise ConfigurationError("no training dataset is chosen", hint="go back to step 2")
        problems: list[str] = []
        spec = TuningJobSpec(
            base_model=self.base_model,
            training_dataset=_SOUND[0],
            validation_dataset=_SOUND[1] if self.validation else None,
            display_name=self.display_name,
            **{name: getattr(self, name) or None for name in ("custom_base_model", "service_account", "kms_key")},
            export_last_checkpoint_only=self.final_only == "1",
            labels={},
            description=self.description,
        )
        with gathered(problems):
            spec = replace(spec, mode=self.tuning_mode)
        with gathered(problems):
            spec = replace(spec, labels=labels_of(self.label.split()))
        for name in (*NUMBERS, "output_uri"):
            if given := getattr(self, name):
                with gathered(problems):
                    spec = changed(spec, [f"{name}={given}"])
        datasets: list[str | None] = []
        for source in (self.training, self.validation):
            with gathered(problems):
                datasets.append(place(source) if source else None)
        require_sound([*problems, *map(str, spec.validate(console.session.environment))] if problems else [])
        return replace(spec, training_dataset=datasets[0] or "", validation_dataset=datasets[1])

    def wanted(self, console: Console) -> Wanted:
        """Return the request of the job. Raises ConfigurationError."""
        return Wanted(spec=self.specification(console), convert=self.convert == "1", force_new=self.force_new == "1")
