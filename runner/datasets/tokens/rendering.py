"""Renders conversations with a chat template, and splits them into what is trained and what is not.

Checks, training and serving share this code, so that all three use the same text: `template_process` has the sandbox
and its limits.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from runner.datasets.limited_processes import LimitedProcesses
from runner.datasets.tokens.template_process import MEMORY, SECONDS
from runner.errors import ConfigurationError, TemplateLimitError

Message = Mapping[str, Any]
_HINT = "use the template that the base model came with"


class Renderer:
    """A chat template, rendered in separate processes.

    Args:
        source: the template.
        special: control tokens that it can name, such as `bos_token`.
        name: name of the template's file, for messages.
        processes: number of conversations that are rendered at once.
    """

    def __init__(self, source: str, special: Mapping[str, str], *, name: str, processes: int = 1) -> None:
        self.source = source
        self._special = dict(special)
        self._name = f"{name}: " if name else ""
        self._processes = LimitedProcesses("runner.datasets.tokens.template_process", processes)

    def render(
        self,
        messages: Sequence[Message],
        *,
        prompt: bool,
        tools: Sequence[Any] | None = None,
        own: Mapping[str, Any] | None = None,
    ) -> str:
        """Return the text of messages.

        Args:
            messages: messages of the conversation.
            prompt: whether to end with the beginning of the assistant's next turn.
            tools: functions that the model can call.
            own: other variables of the template, such as `enable_thinking`.

        Raises:
            TemplateLimitError: it exceeds the limit of memory or time.
            ConfigurationError: the template is broken or refuses the conversation.
        """
        values = {**(own or {}), **self._special, "messages": messages, "add_generation_prompt": prompt}
        if tools:
            values["tools"] = tools
        answer = self._processes.ask(json.dumps([self.source, values]).encode())
        if answer is None:
            limits = f"{SECONDS} s or {MEMORY >> 30} GiB"
            raise TemplateLimitError(
                f"{self._name}the chat template takes more than {limits} for one conversation", hint=_HINT
            )
        text, problem = json.loads(answer)
        if problem:
            raise ConfigurationError(f"{self._name}the chat template {problem}")
        return str(text)

    def pieces(self, messages: Sequence[Message]) -> Iterator[tuple[int, str, bool]]:
        """Yield a conversation in pieces, up to the end of its last answer.

        Yields:
            The index of the answer that the piece belongs to, its text, and whether it is trained.

        Raises:
            ConfigurationError: as in `render`, or the template changes earlier turns when later ones follow.
        """
        done = ""
        for index, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            prompt = self.render(messages[:index], prompt=True)
            answered = self.render(messages[: index + 1], prompt=False)
            if not prompt.startswith(done) or not answered.startswith(prompt):
                raise ConfigurationError(
                    f"{self._name}the chat template changes earlier turns when later ones follow: training refuses it",
                    hint=_HINT,
                )
            yield index, prompt[len(done) :], False
            yield index, answered[len(prompt) :], True
            done = answered
