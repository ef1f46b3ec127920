"""Logits only where they are needed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch


class LabelledPositions:
    """Makes the output layer compute only the positions that are learned.

    It is a fifth of the work of a small model with a large vocabulary, and most positions of a prompt need none of it.
    """

    def __init__(self, model: Any) -> None:
        self._mask: torch.Tensor | None = None
        model.get_output_embeddings().register_forward_pre_hook(self._select)

    @contextlib.contextmanager
    def only(self, mask: torch.Tensor) -> Iterator[None]:
        """Let forward passes within give logits of shape (true positions of `mask`, vocabulary)."""
        self._mask = mask
        try:
            yield
        finally:
            self._mask = None

    def _select(self, _module: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        return None if self._mask is None else (arguments[0][self._mask], *arguments[1:])
