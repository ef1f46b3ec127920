"""What weights are said to be: a small model under a large name is not pushed to a hub as the large one."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.catalog import load_catalog
from runner.errors import ConfigurationError
from runner.serving.export import Weights, require_claim
from runner.serving.stand_ins import StandIn, of_folder

MODELS = [model.id for model in load_catalog().models]
SMALL = 134_515_008
"""Parameters of SmolLM2-135M, the stand-in of the quickstart."""


def weights(parameters: int, *, model_type: str = "llama", stand_in: StandIn | None = None) -> Weights:
    return Weights(
        architecture="LlamaForCausalLM",
        model_type=model_type,
        tensors=1,
        parameters=parameters,
        images=False,
        adapter=False,
        stand_in=stand_in,
    )


@pytest.mark.parametrize("model", MODELS)
def test_a_stand_in_without_its_card_is_refused_under_every_name(model: str) -> None:
    with pytest.raises(ConfigurationError, match="not what their card says"):
        require_claim(weights(SMALL), model)


@pytest.mark.parametrize("model", MODELS)
def test_a_stand_in_with_its_card_is_taken(model: str) -> None:
    require_claim(weights(SMALL, stand_in=StandIn(name="SmolLM2-135M", parameters=SMALL)), model)


def test_a_card_that_names_another_size_is_refused() -> None:
    other = StandIn(name="SmolLM2-135M", parameters=SMALL)
    with pytest.raises(ConfigurationError, match=r"they have 8\.0 billion parameters; SmolLM2-135M has about"):
        require_claim(weights(8_030_261_248, stand_in=other), MODELS[0])


def test_the_real_weights_are_taken() -> None:
    require_claim(weights(8_030_261_248), "meta/llama3_1@llama-3.1-8b-instruct")
    with pytest.raises(ConfigurationError, match=r"not the architecture of qwen/qwen3@qwen3-32b"):
        require_claim(weights(32_762_123_264), "qwen/qwen3@qwen3-32b")


def test_a_card_that_is_none_is_no_card(tmp_path: Path) -> None:
    for content in ("", "[]", "{}", "not JSON"):
        (tmp_path / "stand-in.json").write_text(content)
        assert of_folder(tmp_path) is None
