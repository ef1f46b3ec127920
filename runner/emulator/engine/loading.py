"""Loads a model, its tokenizer and, if it accepts images, its processor."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers: a wrong path must not cause a wait for the network

import torch

from runner import model_files
from runner.emulator.engine.chat_templates import fallback_template
from runner.emulator.engine.checkpoints import ModelError, check_checkpoint, refusing
from runner.emulator.engine.memory import free_memory, lacking_memory
from runner.emulator.engine.processors import preferred_dtype
from runner.emulator.engine.protocol import ModelSource
from runner.emulator.engine.smollm2 import prepare_smollm2
from runner.emulator.engine.sources import describe
from runner.emulator.engine.tiny import prepare_tiny
from runner.errors import ModelLimitError

_SHOWN_TENSORS = 5
_MOST_ADDED = 2
"""Maximum ratio of the model's parameters to those of its weights: an output layer that is the embedding is not saved.
Maximum ratio of the model's parameters to those of its weights: an output layer that is the embedding is not saved."""
_TRAINING_BYTES = 12
"""Bytes for each trained parameter, in addition to the parameter: gradient and two moments, all float32."""
_SMALL_BYTES = 64 * 1024 * 1024
"""Models with fewer parameters run on one CPU thread."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in evaluation mode, for training or generation."""

    model: Any
    """A transformers model, on `model.device` in `model.dtype`."""
    tokenizer: Any
    """Fast tokenizer, with a chat template if requested."""
    processor: Any | None
    """For images; its `tokenizer` is `tokenizer`. None if the model accepts only text."""
    card: dict[str, Any]
    """A description of the weights: `sources.describe` and `directory`."""

    @property
    def end_tokens(self) -> tuple[int, ...]:
        """Return the IDs that end an answer."""
        ends = self.model.generation_config.eos_token_id
        return tuple(ends) if isinstance(ends, list) else (ends,)


def prepare(source: ModelSource, cache: Path) -> Path:
    """Return the folder with a source's weights; a stand-in is built or converted when it is first used."""
    if source.kind == "smollm2":
        return prepare_smollm2(cache)
    if source.kind == "tiny":
        return prepare_tiny(source.family, cache)
    return Path(source.directory or "")


def load(
    source: ModelSource,
    *,
    cache_directory: str,
    threads: int,
    dtype: torch.dtype | None = None,
    template: bool = True,
    trained: bool = False,
    memory: int | None = None,
) -> LoadedModel:
    """Load a source's weights, on the GPU if there is one, and set this process's number of threads.

    Args:
        source: the source.
        cache_directory: the folder for stand-ins.
        threads: CPU threads; tiny models always use 1, which is up to 20 times faster than 2 on a busy machine.
        dtype: None selects bfloat16 if the hardware computes with it, otherwise float32.
        template: add the family's template to a tokenizer without one; training needs a template, serving does not.
        trained: whether every parameter will be trained.
        memory: maximum number of bytes; None uses the free memory of the device.

    Raises:
        ModelError: the weights cannot be used, or need too much memory; the message contains the reason.
    """
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()

    directory = prepare(source, Path(cache_directory))
    config, weights = check_checkpoint(directory)
    tiny = sum((directory / name).stat().st_size for name in weights.files) < _SMALL_BYTES
    torch.set_num_threads(1 if tiny else max(1, threads))
    device = "cuda" if torch.cuda.is_available() and not tiny else "cpu"
    dtype = dtype or (torch.float32 if tiny else preferred_dtype(device))
    # AutoModelForCausalLM would silently drop the image encoder of a Llama 4 model.
    images = "vision_config" in config
    loader = AutoModelForImageTextToText if images else AutoModelForCausalLM
    if images:
        _repair_llama4()
    common = {"local_files_only": True, "trust_remote_code": False}
    try:
        parameters = _parameters(loader, directory)
        with refusing():
            _check_parameters(parameters, weights)
            each = dtype.itemsize + (_TRAINING_BYTES if trained else 0)
            model_files.check_memory(parameters, each, free_memory(device) if memory is None else memory)
        model, found = loader.from_pretrained(
            directory,
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # reported below, with their names
            **common,
        )
        processor = AutoProcessor.from_pretrained(directory, **common) if images else None
        tokenizer = processor.tokenizer if processor else AutoTokenizer.from_pretrained(directory, **common)
    except ModelError:
        raise
    except Exception as error:  # libraries raise any error for an invalid configuration
        if lacking_memory(error) is not None:
            raise
        raise ModelError("INVALID_ARGUMENT", f"The checkpoint cannot be loaded: {error}") from error
    _check_tensors(found)
    tokenizer.chat_template = tokenizer.chat_template or getattr(processor, "chat_template", None)
    if template and not tokenizer.chat_template:
        tokenizer.chat_template = fallback_template(tokenizer)
    model.to(device).eval()
    _complete(model, tokenizer)
    return LoadedModel(model, tokenizer, processor, {**describe(source), "directory": str(directory)})


def _parameters(loader: Any, directory: Path) -> int:
    """Return the number of parameters of the model in a `config.json`, without allocating memory for them."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    with torch.device("meta"):
        model = loader.from_config(config, trust_remote_code=False)
    return sum(parameter.numel() for parameter in model.parameters())


def _check_parameters(described: int, weights: model_files.Weights) -> None:
    """Refuse a configuration with more parameters than the weights: the others would be initialized randomly.

    Raises.
    """
    if described > _MOST_ADDED * weights.parameters:
        raise ModelLimitError(
            f"config.json describes {described:,} parameters, the weights hold {weights.parameters:,}",
            hint="use the config.json that belongs to the weights",
        )


def _repair_llama4() -> None:
    """Make Llama 4 work with transformers 5.24.

    Its forward pass reads `image_outputs` from the language model's output, which has no such field there.
    """
    from transformers.modeling_outputs import MoeCausalLMOutputWithPast

    if not hasattr(MoeCausalLMOutputWithPast, "image_outputs"):
        MoeCausalLMOutputWithPast.image_outputs = None


def _check_tensors(found: Any) -> None:
    """Check transformers' report about the tensors: it silently fills gaps with random numbers.

    Raises:
        ModelError: tensors are missing, unknown to the architecture, or have another shape.
    """
    problems = []
    for key, said in (
        ("missing_keys", "lacks"),
        ("unexpected_keys", "has, unknown to its architecture,"),
        ("mismatched_keys", "has in another shape"),
    ):
        listed = found.get(key) if isinstance(found, dict) else getattr(found, key)
        names = sorted(one if isinstance(one, str) else str(one[0]) for one in listed or ())
        if names:
            more = f" and {len(names) - _SHOWN_TENSORS} more" if len(names) > _SHOWN_TENSORS else ""
            problems.append(f"it {said} {', '.join(names[:_SHOWN_TENSORS])}{more}")
    if problems:
        raise ModelError("INVALID_ARGUMENT", f"The checkpoint does not fit its config.json: {'; '.join(problems)}.")


def _complete(model: Any, tokenizer: Any) -> None:
    """Set an end token and a padding token, because checkpoints of other tools often lack one of them."""
    if model.generation_config.eos_token_id is None:
        model.generation_config.eos_token_id = tokenizer.eos_token_id
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.generation_config.pad_token_id = tokenizer.pad_token_id
