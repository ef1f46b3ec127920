"""The forward pass of a dense Llama-style model on a CPU: fused products, no padding, the faster data type each time.

In transformers' own pass, a third of a decode step is spent outside matrix products, and prompts are padded to the
longest of a group. Here, the tokens of all sequences are concatenated in one matrix. The computation is the same; in
float32, results differ only by rounding, and in bfloat16, the values between the products are kept in float32.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
import torch.nn.functional as functional

from runner.emulator.engine.processors import multiplies_faster_in_bfloat16

_ARCHITECTURES = ("LlamaForCausalLM", "Qwen3ForCausalLM")
_ROPE_TYPES = ("default", "linear", "llama3", "yarn")
"""Rotary embeddings whose angles depend only on the position, not on the length of the sequence."""

_PACKED_TOKENS = 96
"""Number of tokens up to which reading the weights limits a product, so that a packed copy makes it faster."""

_MAX_PACKED_BYTES = 2 * 2**30
"""Maximum size of weights that get a packed copy, which doubles their memory."""


class DenseDecoder:
    """Weights and arithmetic of one model. The model's own layers become views of the fused weights.

    Args:
        model: a model in evaluation mode for which `supports` is true.
    """

    own_threads = False
    """Whether `forward` itself divides its products among threads; then, many rows are computed in one pass."""

    def __init__(self, model: Any) -> None:
        body, config = model.model, model.config
        self._small = is_small(model)
        self.dtype: torch.dtype = model.dtype
        self.layers: int = config.num_hidden_layers
        self.heads: int = config.num_attention_heads
        self.key_heads: int = config.num_key_value_heads
        self.head_size = int(getattr(config, "head_dim", None) or config.hidden_size // self.heads)
        self._epsilon: float = config.rms_norm_eps
        self._embedding: torch.Tensor = body.embed_tokens.weight
        self._rotary = body.rotary_emb
        self._angles = torch.empty((2, 0, self.head_size))
        self._blocks = [_Block(layer, self._projection) for layer in body.layers]
        self._norm = body.norm.weight.float()
        self._head = self._projection([model.get_output_embeddings()])

    @staticmethod
    def supports(model: Any) -> bool:
        """Return whether this pass computes the same as the model's own."""
        config = model.config
        if type(model).__name__ not in _ARCHITECTURES or model.device.type != "cpu":
            return False
        if any(one._forward_pre_hooks or one._forward_hooks for one in model.modules()):
            return False  # which it would not call
        kinds = getattr(config, "layer_types", None) or ["full_attention"]
        rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
        linears = [one for name, one in model.named_modules() if name.endswith("_proj")]
        return (
            config.hidden_act == "silu"
            and set(kinds) == {"full_attention"}
            and rope in _ROPE_TYPES
            and model.dtype in (torch.float32, torch.bfloat16)
            and all(type(one) is torch.nn.Linear and one.bias is None for one in linears)
        )

    def forward(
        self, tokens: list[int], positions: list[int], attention: Attention, wanted: list[int] | None = None
    ) -> torch.Tensor:
        """Return the last hidden states, shape (tokens, hidden), in float32.

        Args:
            tokens: tokens of all sequences, concatenated.
            positions: position of each token in its sequence.
            attention: stores keys and values and computes attention.
            wanted: indices of the tokens whose states are returned; None returns all.
        """
        states = self._embedding[torch.tensor(tokens)].float()
        cosine, sine = self._rotation(positions)
        for number, block in enumerate(self._blocks):
            mixed = block.attention_in(_normed(states, block.norm_in, self._epsilon)).float()
            heads = mixed.view(len(tokens), self.heads + 2 * self.key_heads, self.head_size)
            turned = heads[:, : -self.key_heads]  # queries and keys
            if block.norm_heads is not None:
                turned.copy_(functional.rms_norm(turned, (self.head_size,), None, self._epsilon)).mul_(block.norm_heads)
            halves = turned.roll(self.head_size // 2, -1)
            turned.mul_(cosine).addcmul_(halves, sine)
            heads = heads.to(self.dtype)
            read = attention(number, heads[:, : self.heads], heads[:, self.heads :].unflatten(1, (2, -1)))
            if wanted is not None and number == self.layers - 1:
                states, read = states[wanted], read[wanted]  # the others are not needed any more
            states += block.attention_out(read.reshape(len(states), -1))
            gate, up = block.feed_in(_normed(states, block.norm_feed, self._epsilon)).chunk(2, -1)
            states += block.feed_out(functional.silu(gate).mul_(up))
        return _normed(states, self._norm, self._epsilon)

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """Return the logits after each state, shape (states, vocabulary), in float32."""
        logits: torch.Tensor = self._head(states).float()
        return logits

    def _projection(self, linears: list[Any]) -> Any:
        """Return an object that multiplies with the weights of linear layers that have the same input."""
        return _Projection(linears, pack=self.dtype == torch.bfloat16 and self._small and torch._C._has_mkldnn)

    def _rotation(self, positions: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the factors for a head and its swapped halves, shape (positions, 1, head size)."""
        cosine, sine = self._angles_to(max(positions))[:, torch.tensor(positions)]
        return cosine.unsqueeze(1), sine.unsqueeze(1)

    def _angles_to(self, position: int) -> torch.Tensor:
        """Return cosines and sines of all positions up to this one, or more.

        The sines of the first half are negative.
        """
        if position >= self._angles.shape[1]:
            count = max(1024, 2 * position)
            cosine, sine = self._rotary(torch.empty(0, dtype=torch.float32), torch.arange(count).unsqueeze(0))
            sine[..., : self.head_size // 2].neg_()
            self._angles = torch.stack([cosine[0], sine[0]])
        return self._angles


class Attention(ABC):
    """The keys and values of a pass. `DenseDecoder.forward` calls it once per layer."""

    @abstractmethod
    def rows(self) -> list[tuple[int, int, int, int, int]]:
        """Return the location of each sequence's entries, in the order of its tokens: see `entries_place`."""

    @abstractmethod
    def __call__(self, layer: int, queries: torch.Tensor, entries: torch.Tensor) -> torch.Tensor:
        """Store keys and values, and return the results for the queries, shape (tokens, heads, head size).

        Args:
            layer: number of the layer.
            queries: shape (tokens, heads, head size).
            entries: keys and values, shape (tokens, 2, key heads, head size).
        """


def is_small(model: Any) -> bool:
    """Return whether a model can have a copy of its weights that is faster to read."""
    size: int = sum(one.numel() * one.element_size() for one in model.parameters())
    return size <= _MAX_PACKED_BYTES


def entries_place(entries: torch.Tensor, tokens: int) -> tuple[int, int, int, int, int]:
    """Return the address and the number of new tokens of a sequence, and the strides of the entries in between.

    Args:
        entries: keys and values, shape (layers, 2, key heads, positions, head size); positions are contiguous.
        tokens: number of new tokens.
    """
    layer, kind, head = entries.stride()[:3]
    return entries.data_ptr(), layer, kind, head, tokens


class _Block:
    """The weights of one layer."""

    def __init__(self, layer: Any, project: Any) -> None:
        attention, feed = layer.self_attn, layer.mlp
        self.attention_in = project([attention.q_proj, attention.k_proj, attention.v_proj])
        self.attention_out = project([attention.o_proj])
        self.feed_in = project([feed.gate_proj, feed.up_proj])
        self.feed_out = project([feed.down_proj])
        self.norm_in = layer.input_layernorm.weight.float()
        self.norm_feed = layer.post_attention_layernorm.weight.float()
        self.norm_heads = None
        """Weights of the norms of queries and keys, shape (heads + key heads, head size)."""
        if hasattr(attention, "q_norm"):
            size = attention.q_norm.weight.shape[0]
            counts = (one.weight.shape[0] // size for one in (attention.q_proj, attention.k_proj))
            norms = (attention.q_norm, attention.k_norm)
            rows = [one.weight.float().expand(count, -1) for one, count in zip(norms, counts, strict=True)]
            self.norm_heads = torch.cat(rows)


class _Projection:
    """A product with the weights of one or more linear layers that have the same input."""

    def __init__(self, linears: list[Any], *, pack: bool) -> None:
        weight = linears[0].weight.detach()
        if len(linears) > 1:
            weight = torch.cat([one.weight.detach() for one in linears])
            start = 0
            for one in linears:
                one.weight.data = weight[start : start + one.weight.shape[0]]
                start += one.weight.shape[0]
        self._weight = weight
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight, 16) if pack else None

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the product, in float32 or the weights' type.

        Inputs have one of these types, shape (tokens, features).
        """
        if self._weight.dtype == torch.float32:
            return functional.linear(inputs, self._weight)
        if self._packed is not None and inputs.shape[0] <= _PACKED_TOKENS:
            product = torch.ops.mkldnn._linear_pointwise(inputs.bfloat16(), self._packed, None, "none", [], "")
            return product  # type: ignore[no-any-return]
        if inputs.shape[0] > _PACKED_TOKENS and not multiplies_faster_in_bfloat16():
            # Converting the weights takes a twentieth of the time of the product.
            return functional.linear(inputs.float(), self._weight.float())
        return functional.linear(inputs.bfloat16(), self._weight)


def _normed(states: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
    return functional.rms_norm(states, (states.shape[-1],), weight, epsilon)
