"""Single autograd operations for a model's layers in training, which need fewer passes over memory and less memory.

They apply to weights and arithmetic in float32 on a CPU, where such passes take a third of a step. Values and gradients
equal those of the replaced modules, except for rounding.
"""

from __future__ import annotations

import types
from typing import Any

import torch

_NORMS = {"LlamaRMSNorm": 0.0, "Qwen3RMSNorm": 0.0, "Llama4TextRMSNorm": 0.0, "Gemma3RMSNorm": 1.0}
"""Normalizations by the root mean square, and what is added to their weight."""
_SILU = ("SiLU", "SiLUActivation")


def fuse(model: Any) -> None:
    """Replace the arithmetic of a model's layers in place; its parameters and their names are unchanged."""
    for module in model.modules():
        kind = type(module).__name__
        if kind in _NORMS:
            module.forward = types.MethodType(_norm, module)
        elif hasattr(module, "lora_A") and type(module.base_layer) is torch.nn.Linear:
            module.forward = types.MethodType(_adapted, module)
        elif hasattr(module, "gate_proj") and type(getattr(module, "act_fn", None)).__name__ in _SILU:
            module.forward = types.MethodType(_feed_forward, module)


def _norm(self: Any, states: torch.Tensor) -> torch.Tensor:
    epsilon = self.variance_epsilon if hasattr(self, "variance_epsilon") else self.eps
    normed: torch.Tensor = _Norm.apply(states, self.weight, _NORMS[type(self).__name__], epsilon)
    return normed


def _adapted(self: Any, states: torch.Tensor) -> torch.Tensor:
    base, first, second = self.base_layer, self.lora_A["default"], self.lora_B["default"]
    flat = states.flatten(0, -2)
    scaling = self.scaling["default"]
    product: torch.Tensor = _Adapted.apply(flat, base.weight, base.bias, first.weight, second.weight, scaling)
    return product.view(*states.shape[:-1], -1)


def _feed_forward(self: Any, states: torch.Tensor) -> torch.Tensor:
    product: torch.Tensor = self.down_proj(_Gated.apply(self.gate_proj(states), self.up_proj(states)))
    return product


class _Norm(torch.autograd.Function):
    """Division by the root mean square, then multiplication by a weight."""

    @staticmethod
    def forward(context: Any, states: torch.Tensor, weight: torch.Tensor, shift: float, epsilon: float) -> torch.Tensor:
        scale = torch.linalg.vecdot(states, states).div_(states.shape[-1]).add_(epsilon).rsqrt_().unsqueeze(-1)
        context.save_for_backward(states, weight, scale)
        context.shift = shift
        normed: torch.Tensor = (states * scale).mul_(weight + shift if shift else weight)
        return normed

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None, None, None]:
        states, weight, scale = context.saved_tensors
        weighted = gradient * (weight + context.shift if context.shift else weight)
        mean = torch.linalg.vecdot(weighted, states).div_(states.shape[-1]).unsqueeze(-1)
        of_weight = None
        if context.needs_input_grad[1]:
            of_weight = (gradient * states).mul_(scale).flatten(0, -2).sum(0)
        return weighted.sub_(states * mean.mul_(scale * scale)).mul_(scale), of_weight, None, None


class _Adapted(torch.autograd.Function):
    """A frozen linear layer with an adapter."""

    @staticmethod
    def forward(
        context: Any,
        states: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        first: torch.Tensor,
        second: torch.Tensor,
        scaling: float,
    ) -> torch.Tensor:
        product = states @ weight.T if bias is None else torch.addmm(bias, states, weight.T)
        narrow = (states @ first.T).mul_(scaling)
        context.save_for_backward(states, narrow, weight, first, second)
        context.scaling = scaling
        return product.addmm_(narrow, second.T)

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        states, narrow, weight, first, second = context.saved_tensors
        of_narrow = (gradient @ second).mul_(context.scaling)
        of_states = (gradient @ weight).addmm_(of_narrow, first) if context.needs_input_grad[0] else None
        return of_states, None, None, of_narrow.T @ states, (narrow.T @ gradient).T, None


class _Gated(torch.autograd.Function):
    """SiLU of one half times the other half."""

    @staticmethod
    def forward(context: Any, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        context.save_for_backward(gate, up)
        return torch.nn.functional.silu(gate).mul_(up)

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        gate, up = context.saved_tensors
        sigmoid = torch.sigmoid(gate)
        shared = gradient * sigmoid
        of_up = shared * gate
        # silu' = sigmoid * (1 + gate * (1 - sigmoid))
        of_gate = sigmoid.neg_().add_(1).mul_(gate).add_(1).mul_(shared).mul_(up)
        return of_gate, of_up
