"""Typed access to `catalog.toml`."""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from runner.errors import RunnerError

TuningMode = Literal["FULL", "PEFT_ADAPTER"]
Family = Literal["llama3", "llama4", "gemma3", "qwen3"]

LOCATIONS = ("us-central1", "europe-west4")
"""The specification's regions; `Catalog.locations` also has the newer ones."""


class UnknownModelError(RunnerError):
    """No base model has this ID."""

    code = "unknown_model"
    usual_hint = "`runner models ls` lists them"
    exit_code = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """A location for jobs."""

    id: str
    name: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeLimits:
    """The limits and prices of one tuning mode of one model. None if the service publishes nothing."""

    max_sequence_length: int
    """Maximum tokens of one example, including the chat template (specification)."""
    newer_max_sequence_length: int | None = None
    """The value on a newer page of the service, if it differs."""
    usd_per_million_tokens: float | None = None
    tokens_per_character: float | None = None
    """Billed tokens per character of text, for estimates without the tokenizer."""
    learning_rate: float | None = None
    """Google's published starting point."""
    adapter_size: int | None = None
    """Google's published LoRA rank; only for PEFT_ADAPTER."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineChoice:
    """Machine and accelerator for serving; all three values or none."""

    machine_type: str
    accelerator_type: str
    accelerator_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A serving machine and its on-demand price."""

    machine_type: str
    accelerator_type: str
    accelerator_count: int
    usd_per_hour: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DataflowPrices:
    """The price of Dataflow's batch workers in us-central1, and the rate at which one of their cores reads datasets."""

    source: str
    price_date: str
    usd_per_vcpu_hour: float
    usd_per_memory_gb_hour: float
    usd_per_disk_gb_hour: float
    usd_per_shuffled_gb: float
    memory_gb_per_vcpu: float
    disk_gb_per_worker: float
    worker_start_seconds: float
    bytes_per_core_second: dict[str, float]
    """By command."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRates:
    """The assumptions for the estimated time of batch prediction jobs."""

    source: str
    start_seconds: float
    share_of_bandwidth: float
    questions_at_once: int
    fewest_at_once: int
    gigabytes_per_second: dict[str, float]
    """Memory bandwidth of an accelerator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A base model that can be tuned."""

    id: str
    name: str
    family: Family
    """Architecture family, which determines the stand-in on this machine."""
    images: bool
    source: str
    modes: dict[TuningMode, ModeLimits]
    aliases: tuple[str, ...] = ()
    hub: str | None = None
    """Repository of the same weights on the Hugging Face Hub, whose tokenizer counts exactly; None if not confirmed."""
    serving: MachineChoice | None = None

    @property
    def in_specification(self) -> bool:
        """Distinguishes the specification's models from later additions with a date."""
        return self.source == "specification"


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """The contents of `catalog.toml`."""

    version: str
    price_date: str
    hourly_price_date: str
    locations: tuple[Location, ...]
    models: tuple[Model, ...]
    machines: tuple[Machine, ...]
    dataflow: DataflowPrices
    batch: BatchRates


@functools.cache
def load_catalog() -> Catalog:
    """Parse the catalog; about 2 ms, once per process."""
    body = tomllib.loads(Path(__file__).with_name("catalog.toml").read_text("utf-8"))
    return Catalog(
        version=body["version"],
        price_date=body["price_date"],
        hourly_price_date=body["hourly_price_date"],
        locations=tuple(Location(**row) for row in body["locations"]),
        models=tuple(_model(row) for row in body["models"]),
        machines=tuple(Machine(**row) for row in body["machines"]),
        dataflow=DataflowPrices(**body["dataflow"]),
        batch=BatchRates(**body["batch"]),
    )


def _model(row: dict[str, Any]) -> Model:
    serving = row.pop("serving", None)
    return Model(
        **row
        | {
            "aliases": tuple(row.get("aliases", ())),
            "modes": {mode: ModeLimits(**limits) for mode, limits in row["modes"].items()},
            "serving": MachineChoice(**serving) if serving else None,
        }
    )


def models() -> tuple[Model, ...]:
    """Return all base models, the specification's first."""
    return load_catalog().models


def machines() -> tuple[Machine, ...]:
    """Return all serving machines with prices."""
    return load_catalog().machines


def find_model(name: str) -> Model:
    """Return a base model by ID, alias or long form (`publishers/P/models/M@V`).

    Raises:
        UnknownModelError: no model has this ID; the hint contains the most similar one.
    """
    short = name
    if name.startswith("publishers/"):
        short = name.removeprefix("publishers/").replace("/models/", "/", 1)
    for model in models():
        if short == model.id or short in model.aliases:
            return model
    import difflib  # imported here, so that read-only commands start fast

    known = [model.id for model in models()]
    word = short.lower()
    near = (
        difflib.get_close_matches(word, known, n=1, cutoff=0.5) or [item for item in known if word and word in item][:3]
    )
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise UnknownModelError(
        f"base model {name[:100]!r} is not in the catalog", hint=f"{hint}`runner models ls` lists them"
    )
