"""LoRA by PEFT: which layers get adapters, and the merged weights without touching the model."""

from __future__ import annotations

from typing import Any

import torch

_TARGETS = r"\.(q|k|v|o|gate|up|down)_proj"

ALPHA_PER_RANK = 2
"""lora_alpha / rank: adapters start with the same effect whatever their rank."""


def add_adapters(model: Any, rank: int) -> Any:
    """Return the model with adapters on every projection of its language part; its own weights are frozen.

    Images are read by layers that stay as they are, and so does Llama 4's router, whose choice is not differentiable.
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
    """Return the base model's state with the adapters added in, computed aside: the model in training stays exact."""
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
