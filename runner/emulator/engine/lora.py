"""LoRA with PEFT: the layers that get adapters, and the merged weights without a change of the model."""

from __future__ import annotations

from typing import Any

import torch

_TARGETS = r"\.(q|k|v|o|gate|up|down)_proj"

ALPHA_PER_RANK = 2
"""lora_alpha / rank: adapters start with the same effect for every rank."""


def add_adapters(model: Any, rank: int) -> Any:
    """Return the model with adapters on every projection of its language part; its own weights are frozen.

    The layers for images have no adapters, and neither has Llama 4's router, whose choice is not differentiable.
    """
    from peft import LoraConfig, get_peft_model

    prefix = r".*language_model.*" if hasattr(model.config, "vision_config") else r".*"
    config = LoraConfig(
        r=rank,
        lora_alpha=ALPHA_PER_RANK * rank,
        lora_dropout=0.0,
        target_modules=prefix + _TARGETS,
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config)


def merged_state(adapted: Any) -> dict[str, torch.Tensor]:
    """Return the base model's state merged with the adapters, in a copy, so that the trained model is not changed."""
    base = adapted.get_base_model()
    state: dict[str, torch.Tensor] = {}
    for name, tensor in base.state_dict().items():
        if ".lora_" not in name:
            state[name.replace(".base_layer.", ".")] = tensor
    for name, module in base.named_modules():
        if hasattr(module, "get_delta_weight"):
            weight = module.base_layer.weight
            delta = module.get_delta_weight("default")
            state[f"{name}.weight"] = (weight.float() + delta.float()).to(weight.dtype)
    return state
