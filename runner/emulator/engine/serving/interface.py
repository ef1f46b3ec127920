"""The interface between the HTTP part of a serving process and its engine, and the choice of the engine."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterable
from typing import Any, Literal, Protocol

from runner.emulator.engine.checkpoints import ModelError
from runner.emulator.engine.serving.metrics import Metrics
from runner.emulator.engine.serving.parameters import SamplingParameters
from runner.emulator.engine.serving.sequence import Delta, Prompt, Sequence
from runner.emulator.engine.serving.text import Decode
from runner.emulator.errors import invalid

EngineKind = Literal["torch", "vllm"]

ENGINE_VARIABLE = "RUNNER_SERVING_ENGINE"
"""Environment variable that selects the engine: `torch` or `vllm`."""


class ServedModel(Protocol):
    """A model to serve, from `loading.load`. An engine that loads the weights itself only needs the configurations."""

    @property
    def model(self) -> Any:
        """Return the transformers model, or an object with `config` and `generation_config`."""

    @property
    def tokenizer(self) -> Any:
        """Return its tokenizer."""

    @property
    def processor(self) -> Any | None:
        """Return its processor of images, if it accepts images."""

    @property
    def card(self) -> dict[str, Any]:
        """Return a description of the weights: `standIn` and `weights`; also `directory` if no weights are loaded."""


class ServingEngine(Protocol):
    """Generates any number of sequences with one model. All methods are called on the event loop's thread."""

    @property
    def kind(self) -> EngineKind:
        """Return the name of this engine."""

    @property
    def max_length(self) -> int:
        """Return the maximum number of tokens of prompt and output."""

    @property
    def metrics(self) -> Metrics:
        """Return the counters of this process."""

    @property
    def decode_all(self) -> Decode:
        """Return the function from token IDs to text, including special tokens."""

    @property
    def death(self) -> str | None:
        """Return why the engine has failed permanently; None if it has not."""

    def start(self) -> None:
        """Start generating."""

    def close(self) -> None:
        """Cancel everything and stop."""

    def check(self, prompt: Prompt, parameters: SamplingParameters) -> None:
        """Raise INVALID_ARGUMENT if a prompt cannot be answered."""

    def submit_all(
        self, requests: Iterable[tuple[Prompt, SamplingParameters, Callable[[int, Delta], None]]]
    ) -> list[Sequence]:
        """Queue the sequences of several prompts, all or none.

        Raises:
            ApiError: RESOURCE_EXHAUSTED if they do not fit now; UNAVAILABLE if the engine closes or has failed.
        """

    def cancel(self, sequences: Iterable[Sequence]) -> None:
        """Cancel unfinished sequences."""


def check_prompt(prompt: Prompt, parameters: SamplingParameters, max_length: int, vocabulary_size: int) -> None:
    """Raise INVALID_ARGUMENT if a prompt is empty or too long, or a token ID is not in the vocabulary."""
    if not prompt.ids:
        raise invalid("The prompt has no tokens.")
    if len(prompt.ids) >= max_length:
        raise invalid(
            f"This model's maximum context length is {max_length} tokens. However, your prompt has "
            f"{len(prompt.ids)} tokens and at least one is generated. Please reduce the length of the prompt."
        )
    for token in [*parameters.logit_bias, *parameters.stop_token_ids]:
        if token >= vocabulary_size:
            raise invalid(f"Token id {token} is not in the vocabulary of {vocabulary_size} tokens.")


def engine_kind() -> EngineKind:
    """Return the engine for this machine: vLLM if it is installed and there is a CUDA device, otherwise torch.

    `RUNNER_SERVING_ENGINE` overrides this choice.

    Raises:
        ModelError: FAILED_PRECONDITION if vLLM is selected and cannot run here; INVALID_ARGUMENT if the variable names
            no engine.
    """
    asked = os.environ.get(ENGINE_VARIABLE, "")
    if asked not in ("", "torch", "vllm"):
        raise ModelError("INVALID_ARGUMENT", f"{ENGINE_VARIABLE} must be torch or vllm, got {asked!r}.")
    if asked == "torch":
        return "torch"
    if importlib.util.find_spec("vllm") is None:
        missing = "vllm is not installed: pip install vllm"
    elif not _cuda_device():
        missing = "PyTorch sees no CUDA device: look at nvidia-smi"
    else:
        return "vllm"
    if asked == "vllm":
        raise ModelError(
            "FAILED_PRECONDITION",
            f"{ENGINE_VARIABLE}=vllm, but {missing}, or serve with the emulator's own engine: "
            f"export {ENGINE_VARIABLE}=torch, then start the emulator again.",
        )
    return "torch"


def _cuda_device() -> bool:
    # The driver's management library answers this, so that CUDA is not initialized in this process.
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    import torch

    return torch.cuda.is_available()
