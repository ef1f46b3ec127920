"""The forward pass of a `DenseDecoder` as one call into the compiled package of `native/`, if it is installed.

PyTorch's products of few rows reach a third of the rate of a processor with AVX-512, and a third of a step passes
between them. Here, control does not return to Python within a step, weights are read once for all rows, and the CPU
threads share each product.
"""

from __future__ import annotations

from typing import Any

import torch

from runner.datasets.reading import native
from runner.emulator.engine.processors import has_matrix_unit, multiplies_faster_in_bfloat16
from runner.emulator.engine.serving.dense import Attention, DenseDecoder, is_small


class CompiledDecoder(DenseDecoder):
    """A decoder of bfloat16 weights that keeps the values between the products in float32.

    The model's own layers lose their weights, because the decoder has a copy.

    Args:
        model: a model in evaluation mode for which `supports` is true.
        threads: number of CPU threads.
        narrow: whether the inputs of each product are rounded to bfloat16, as PyTorch does; by default, if the CPU
            multiplies bfloat16 faster than float32.
    """

    own_threads = True

    def __init__(self, model: Any, *, threads: int, narrow: bool | None = None) -> None:
        super().__init__(model)
        self._threads = threads
        head = model.get_output_embeddings().weight
        self._vocabulary = int(head.shape[0])
        layers = [(layer.self_attn, layer.mlp) for layer in model.model.layers]
        projections = [
            [one.q_proj, one.k_proj, one.v_proj, one.o_proj, feed.gate_proj, feed.up_proj, feed.down_proj]
            for one, feed in layers
        ]
        norms = [(one.norm_in, one.norm_feed, one.norm_heads) for one in self._blocks]
        self._native = _compiled()(
            self.heads,
            self.key_heads,
            self.head_size,
            self._epsilon,
            [[_matrix(linear.weight) for linear in linears] for linears in projections],
            [[[] if norm is None else norm.flatten().tolist() for norm in three] for three in norms],
            self._norm.tolist(),
            _matrix(head),
            multiplies_faster_in_bfloat16() if narrow is None else narrow,
        )
        for linear in [linear for linears in projections for linear in linears]:
            linear.weight.data = linear.weight.new_empty(0)

    @staticmethod
    def supports(model: Any) -> bool:
        """Return whether the package is installed, and is faster for this model on this processor."""
        decoder = _compiled()
        if decoder is None or not DenseDecoder.supports(model) or model.dtype != torch.bfloat16:
            return False
        if not is_small(model) or has_matrix_unit():
            return False
        config = model.config
        size = int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)
        weights = [one.weight for name, one in model.named_modules() if name.endswith(("_proj", "lm_head"))]
        return all(one.is_contiguous() and one.dtype == torch.bfloat16 for one in weights) and bool(
            decoder.supports(config.hidden_size, size, config.intermediate_size)
        )

    def forward(
        self, tokens: list[int], positions: list[int], attention: Attention, wanted: list[int] | None = None
    ) -> torch.Tensor:
        """Return the last hidden states, see `DenseDecoder.forward`; `wanted` is ascending."""
        states = self._embedding[torch.tensor(tokens)].float()
        cosine, sine = self._angles_to(max(positions))
        kept = list(range(len(tokens))) if wanted is None else wanted
        self._native.forward(
            states.data_ptr(), cosine.data_ptr(), sine.data_ptr(), positions, attention.rows(), kept, self._threads
        )
        return states[: len(kept)]

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """Return the logits after each state, shape (states, vocabulary), in float32."""
        states = states.contiguous()
        made = torch.empty((len(states), self._vocabulary))
        self._native.logits(states.data_ptr(), len(states), made.data_ptr(), self._threads)
        return made

    def _projection(self, linears: list[Any]) -> None:
        """Return nothing: the package has its own products."""


def decoder_for(model: Any, *, threads: int) -> DenseDecoder | None:
    """Return the fastest decoder that computes the same as the model's own pass, if there is one."""
    if CompiledDecoder.supports(model):
        return CompiledDecoder(model, threads=threads)
    return DenseDecoder(model) if DenseDecoder.supports(model) else None


def _compiled() -> Any:
    """Return the package's class; None if the package or the processor's type has none."""
    return getattr(native.module(), "Decoder", None)


def _matrix(weight: torch.Tensor) -> tuple[int, int, int]:
    """Return the address, the number of outputs and the number of inputs."""
    return weight.data_ptr(), int(weight.shape[0]), int(weight.shape[1])
