"""Tiny untrained models with each family's own architecture, for tests and if there is no other stand-in.

They have learned nothing before tuning. Each has its own byte-level vocabulary of 1024 entries, learned from the
dataset in this package, and the special tokens and the chat format of its family. The same seed gives the same weights
everywhere.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from runner.emulator.engine import chat_templates
from runner.emulator.engine.checkpoints import ModelError
from runner.emulator.engine.model_cache import build_once
from runner.emulator.engine.sources import TINY
from runner.emulator.engine.tokenizer_files import save_tokenizer

VERSION = 2
"""Part of the folder's name; increase it when a change here affects the weights or the tokenizer."""

_VOCABULARY = 1024
_NORM_SCALE = 8.0
"""The final norm's weight. Embeddings of an untrained model are so small that, as the output layer, they limit every
logit to about 2.5: with frozen embeddings, LoRA could never learn to be certain of a token. Measured: with 8, all of
32 answers are learned; with 1, none."""
_SHARPNESS = 8.0
"""Factor for Llama 3's query and key weights. The other families normalize queries and keys, so that an untrained
attention already distinguishes tokens; Llama 3's is flat for long. Measured: half the steps to a loss of 0.1."""
_IMAGE = 56
_PATCH = 14
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

_SPECIAL_TOKENS: dict[str, tuple[str, ...]] = {
    "llama3": (
        "<|begin_of_text|>",
        "<|end_of_text|>",
        "<|finetune_right_pad_id|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eom_id|>",
        "<|eot_id|>",
        "<|python_tag|>",
    ),
    "llama4": (
        "<|begin_of_text|>",
        "<|end_of_text|>",
        "<|finetune_right_pad|>",
        "<|header_start|>",
        "<|header_end|>",
        "<|eom|>",
        "<|eot|>",
        "<|python_start|>",
        "<|python_end|>",
        "<|image_start|>",
        "<|image_end|>",
        "<|image|>",
        "<|patch|>",
        "<|tile_x_separator|>",
        "<|tile_y_separator|>",
    ),
    "gemma3": ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"),
    "qwen3": ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"),
}
# Beginning (None: the family has none), end of an answer, padding.
_ROLES: dict[str, tuple[str | None, str, str]] = {
    "llama3": ("<|begin_of_text|>", "<|eot_id|>", "<|finetune_right_pad_id|>"),
    "llama4": ("<|begin_of_text|>", "<|eot|>", "<|finetune_right_pad|>"),
    "gemma3": ("<bos>", "<end_of_turn>", "<pad>"),
    "qwen3": (None, "<|im_end|>", "<|endoftext|>"),
}
_TEMPLATES = {
    "llama3": chat_templates.LLAMA3,
    "llama4": chat_templates.LLAMA4,
    "gemma3": chat_templates.GEMMA3,
    "qwen3": chat_templates.QWEN3,
}


def prepare_tiny(family: str, cache: Path) -> Path:
    """Return the folder of a family's tiny model; the first use builds it (less than 2 s).

    Raises:
        ModelError: the family does not exist.
    """
    if family not in _BUILDERS:
        raise ModelError("INVALID_ARGUMENT", f"No tiny model stands in for the family {family}.")
    return build_once(cache, f"tiny-{family}-v{VERSION}", lambda folder: _build(family, folder))


def _build(family: str, folder: Path) -> None:
    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tokenizer = _tokenizer(family)
        beginning, end, padding = (
            None if token is None else tokenizer.convert_tokens_to_ids(token) for token in _ROLES[family]
        )
        common = {
            "vocab_size": len(tokenizer),
            "hidden_size": 128,
            "intermediate_size": 256,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 32,
            "max_position_embeddings": 8192,
            "bos_token_id": beginning,
            "eos_token_id": end,
            "pad_token_id": padding,
        }
        model, processor = _BUILDERS[family](common, tokenizer)
    norm = next(part for name, part in model.named_modules() if name in ("model.norm", "language_model.model.norm"))
    with torch.no_grad():
        # Gemma multiplies by 1 + weight.
        norm.weight.fill_(_NORM_SCALE - 1 if family == "gemma3" else _NORM_SCALE)
        if family == "llama3":
            for name, weight in model.named_parameters():
                if name.endswith(("q_proj.weight", "k_proj.weight")):
                    weight.mul_(_SHARPNESS)
    model.generation_config.bos_token_id = beginning
    model.generation_config.eos_token_id = end
    model.generation_config.pad_token_id = padding
    model.save_pretrained(folder)
    save_tokenizer(processor or tokenizer, folder)
    TINY[family].write(folder)


def _llama3(common: dict[str, Any], tokenizer: Any) -> tuple[Any, None]:
    from transformers import LlamaConfig, LlamaForCausalLM

    rope = {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 1024,
    }
    return LlamaForCausalLM(LlamaConfig(**common, tie_word_embeddings=True, rope_parameters=rope)), None


def _qwen3(common: dict[str, Any], tokenizer: Any) -> tuple[Any, None]:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    return Qwen3ForCausalLM(Qwen3Config(**common, tie_word_embeddings=True)), None


def _gemma3(common: dict[str, Any], tokenizer: Any) -> tuple[Any, None]:
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    config = Gemma3TextConfig(
        **common,
        query_pre_attn_scalar=32,
        sliding_window=64,
        layer_types=["sliding_attention", "full_attention"],
    )
    return Gemma3ForCausalLM(config), None


def _llama4(common: dict[str, Any], tokenizer: Any) -> tuple[Any, Any]:
    from transformers import Llama4Config, Llama4ForConditionalGeneration, Llama4ImageProcessor, Llama4Processor

    text = common | {
        "intermediate_size": 64,
        "intermediate_size_mlp": 256,
        "num_local_experts": 4,
        "num_experts_per_tok": 1,
        "attention_chunk_size": 256,
        "interleave_moe_layer_step": 1,
        "use_qk_norm": True,
        "tie_word_embeddings": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0},
    }
    # 4 x 4 patches per tile, halved in each direction by the pixel shuffle: 4 tokens per tile.
    vision = {
        "hidden_size": 64,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": _IMAGE,
        "patch_size": _PATCH,
        "pixel_shuffle_ratio": 0.5,
        "projector_input_dim": 64,
        "projector_output_dim": 64,
        "vision_output_dim": 64,
    }
    token = tokenizer.convert_tokens_to_ids
    config = Llama4Config(
        text_config=text,
        vision_config=vision,
        boi_token_index=token("<|image_start|>"),
        eoi_token_index=token("<|image_end|>"),
        image_token_index=token("<|patch|>"),
        tie_word_embeddings=False,
    )
    processor = Llama4Processor(
        image_processor=Llama4ImageProcessor(size={"height": _IMAGE, "width": _IMAGE}, max_patches=4),
        tokenizer=tokenizer,
        patch_size=_PATCH,
        pixel_shuffle_ratio=0.5,
        chat_template=tokenizer.chat_template,
    )
    return Llama4ForConditionalGeneration(config), processor


_BUILDERS: dict[str, Callable[[dict[str, Any], Any], tuple[Any, Any]]] = {
    "llama3": _llama3,
    "llama4": _llama4,
    "gemma3": _gemma3,
    "qwen3": _qwen3,
}


def _tokenizer(family: str) -> Any:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY,
        special_tokens=list(_SPECIAL_TOKENS[family]),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_text(), trainer)
    beginning, end, padding = _ROLES[family]
    if beginning is not None:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{beginning} $A", special_tokens=[(beginning, tokenizer.token_to_id(beginning))]
        )
    extra = {}
    if family == "llama4":
        extra = {
            "extra_special_tokens": {
                "boi_token": "<|image_start|>",
                "eoi_token": "<|image_end|>",
                "image_token": "<|image|>",
            }
        }
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=beginning,
        eos_token=end,
        pad_token=padding,
        model_max_length=8192,
        clean_up_tokenization_spaces=False,
        **extra,
    )
    fast.chat_template = _TEMPLATES[family]
    return fast


def _text() -> Iterator[str]:
    """Yield the sentences of the bundled dataset: English with capitals and punctuation."""
    data = resources.files("runner").joinpath("quickstart", "data", "train.jsonl").read_text("utf-8")
    for line in data.splitlines():
        for message in json.loads(line)["messages"]:
            yield message["content"]
            yield message["content"].lower()
