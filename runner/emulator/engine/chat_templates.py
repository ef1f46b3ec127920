"""Chat formats of the model families, for the tiny stand-ins and for checkpoints without a template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from runner.datasets.tokens.rendering import Renderer
from runner.emulator.engine.checkpoints import ModelError


def _content(image_token: str = "") -> str:
    """Return the template's rendering of one message's content: text, or a list of parts."""
    image = f"{{% if part['type'] == 'image' %}}{{{{ '{image_token}' }}}}{{% endif %}}" if image_token else ""
    return (
        "{% if message['content'] is string %}{{ message['content'] | trim }}{% else %}"
        "{% for part in message['content'] %}" + image + "{% if part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
        "{% endfor %}{% endif %}"
    )


def _llama(start: str, end: str, end_of_turn: str, image_token: str = "") -> str:
    return (
        "{{ bos_token }}{% for message in messages %}{{ '"
        + start
        + "' + message['role'] + '"
        + end
        + "\\n\\n' }}"
        + _content(image_token)
        + "{{ '"
        + end_of_turn
        + "' }}{% endfor %}{% if add_generation_prompt %}{{ '"
        + start
        + "assistant"
        + end
        + "\\n\\n' }}{% endif %}"
    )


LLAMA3 = _llama("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
LLAMA4 = _llama("<|header_start|>", "<|header_end|>", "<|eot|>", "<|image|>")
QWEN3 = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}" + _content() + "{{ '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
# Gemma has no system turn: the first user turn begins with the system message.
GEMMA3 = (
    "{{ bos_token }}{% set ns = namespace(system='') %}{% for message in messages %}"
    "{% if message['role'] == 'system' %}{% set ns.system %}"
    + _content()
    + "{{ '\\n\\n' }}{% endset %}{% else %}"
    + "{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\\n' }}"
    + "{{ ns.system }}{% set ns.system = '' %}"
    + _content("<start_of_image>")
    + "{{ '<end_of_turn>\\n' }}{% endif %}{% endfor %}"
    + "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)

_BY_TOKEN = {
    "<|start_header_id|>": LLAMA3,
    "<|header_start|>": LLAMA4,
    "<start_of_turn>": GEMMA3,
    "<|im_start|>": QWEN3,
}


def fallback_template(tokenizer: Any) -> str:
    """Return the template of the family with a tokenizer's special tokens.

    Raises:
        ModelError: no family has these tokens.
    """
    vocabulary = tokenizer.get_vocab()
    for token, template in _BY_TOKEN.items():
        if token in vocabulary:
            return template
    raise ModelError(
        "INVALID_ARGUMENT", "The checkpoint has no chat template, and its tokens belong to no known family."
    )


def renderer_of(tokenizer: Any, *, processes: int = 1, tools: Sequence[Any] | None = None) -> Renderer:
    """Return a renderer of a tokenizer's chat template, with limits for memory and time.

    Args:
        tokenizer: a transformers tokenizer with a chat template.
        processes: number of conversations that are rendered concurrently.
        tools: functions that the model can call; some tokenizers have a separate template for them.
    """
    source = tokenizer.get_chat_template(None, list(tools) if tools else None)
    special = {name: token for name, token in tokenizer.special_tokens_map.items() if isinstance(token, str)}
    return Renderer(source, special, name="", processes=processes)
