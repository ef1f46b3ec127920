"""Templates render within limits to the same texts as transformers renders without."""

from __future__ import annotations

from typing import Any

import pytest

from runner.datasets.tokens.rendering import Renderer
from runner.emulator.engine import chat_templates
from runner.errors import ConfigurationError

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"city": "Zürich"}}}]
CONVERSATIONS: list[list[dict[str, Any]]] = [
    [{"role": "user", "content": "a"}],
    [{"role": "system", "content": " ü<&>\"' "}, {"role": "user", "content": "{{ b }}"}],
    [{"role": "user", "content": "a"}, {"role": "assistant", "content": "x\n"}, {"role": "user", "content": ""}],
    [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]}],
]
SOURCES = [
    *(getattr(chat_templates, name) for name in ("LLAMA3", "LLAMA4", "QWEN3", "GEMMA3")),
    "{{ messages | tojson }}",
    "{{ messages | tojson(indent=2) }}",
    "{% if tools %}{{ tools | tojson(indent=4, sort_keys=true) }}{% endif %}",
    "{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}{{ m.role }}{% endfor %}",
    "{% for m in messages %}{% if m.role == 'system' %}{% continue %}{% endif %}{{ m.role }}{% endfor %}",
    "{% for m in messages %}{% generation %}{{ m.role }}{{ eos_token }}{% endgeneration %}{% endfor %}",
    "  {%- set ns = namespace(found=false) -%} {% if not ns.found %}\n{{ bos_token }}\n{% endif %}{{ absent }}",
    "{{ strftime_now('%Y') }}{{ messages[0]['role'].upper() }}{{ messages | selectattr('role', 'eq', 'user') | list }}",
]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("prompt", [False, True])
def test_the_text_is_that_of_transformers(source: str, prompt: bool) -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    ours = Renderer(source, SPECIAL, name="")
    for messages in CONVERSATIONS:
        for tools in (None, TOOLS):
            (theirs,), _ = render_jinja_template(
                [messages], tools=tools, chat_template=source, add_generation_prompt=prompt, **SPECIAL
            )
            assert ours.render(messages, prompt=prompt, tools=tools) == theirs


def test_a_template_gets_what_a_request_hands_it_but_no_other_messages() -> None:
    source = "{{ reasoning_effort }} {{ enable_thinking }} {{ messages | length }} {{ bos_token }}"
    own = {"reasoning_effort": "low", "enable_thinking": False, "bos_token": "x", "messages": []}
    assert Renderer(source, SPECIAL, name="").render(CONVERSATIONS[0], prompt=True, own=own) == "low False 1 <s>"


@pytest.mark.parametrize(
    "source",
    [
        "{% include '/etc/passwd' %}",
        "{% import '/etc/passwd' as x %}{{ x }}",
        "{% extends 'base.jinja' %}",
        "{{ self.__class__ }}{{ ''.__class__.__mro__[1].__subclasses__()[0] }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ messages.append('x') }}",
    ],
)
def test_a_template_reaches_no_file_and_no_code(source: str) -> None:
    with pytest.raises(ConfigurationError, match="the chat template fails"):
        Renderer(source, SPECIAL, name="").render(CONVERSATIONS[0], prompt=True)
