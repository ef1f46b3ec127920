"""One sequence: its prompt, its generated tokens and its deltas."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from runner.emulator.engine.serving.constraints import Constraint
from runner.emulator.engine.serving.parameters import SamplingParameters
from runner.emulator.engine.serving.sampling import Choice, Sampler
from runner.emulator.engine.serving.scores import PromptToken
from runner.emulator.engine.serving.text import Decode, TextAssembler

FinishReason = Literal["stop", "length", "cancelled", "error"]


@dataclass(frozen=True, slots=True)
class Prompt:
    """Token IDs, and the processor's outputs for images, if there are any."""

    ids: list[int]
    image_inputs: dict[str, torch.Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Delta:
    """The additions of one step to a sequence. The last one has a `finish_reason`."""

    text: str
    choices: tuple[Choice, ...]
    finish_reason: FinishReason | None = None
    error: str = ""
    prompt: tuple[PromptToken, ...] = ()
    """With the first token, if requested: the scores of the prompt's tokens except the first."""


Deliver = Callable[[Delta], None]
"""Gets the deltas of one sequence in order, on the engine's thread; must not block."""


class Sequence:
    """One sequence that is being generated. Only the engine's thread changes it, except for `cancelled`."""

    def __init__(
        self,
        prompt: Prompt,
        parameters: SamplingParameters,
        index: int,
        deliver: Deliver,
        end_tokens: frozenset[int],
        decode: Decode,
        constraint: Constraint | None = None,
    ) -> None:
        self.prompt = prompt
        self.parameters = parameters
        self.index = index
        self.deliver = deliver
        self.cancelled = False
        self.generated: list[int] = []
        self.finish_reason: FinishReason | None = None
        self.prompt_scores: tuple[PromptToken, ...] = ()
        self.created = time.monotonic()
        self.end_tokens = (frozenset() if parameters.ignore_eos else end_tokens) | parameters.stop_token_ids
        self.sampler = Sampler(parameters, prompt.ids, end_tokens | parameters.stop_token_ids, index, constraint)
        self.text = TextAssembler(decode, parameters.stop, parameters.include_stop_str_in_output)

    @property
    def scores_prompt(self) -> bool:
        """Return whether its prompt must be scored when it is read: once for all sequences of a request."""
        return self.parameters.prompt_logprobs is not None and not self.index and not self.generated

    @property
    def ids(self) -> list[int]:
        """Return the tokens of prompt and output."""
        return [*self.prompt.ids, *self.generated]

    @property
    def length(self) -> int:
        """Return the number of tokens of prompt and output."""
        return len(self.prompt.ids) + len(self.generated)

    def take(self, token: int, max_length: int) -> tuple[str, FinishReason | None]:
        """Add a generated token; return the text that is now certain and, at the end, the reason for the end.

        Args:
            token: the next token.
            max_length: maximum tokens of prompt and output together.
        """
        self.generated.append(token)
        reason: FinishReason | None = None
        if token in self.end_tokens:
            text, reason = "", "stop"
        else:
            text = self.text.add(token)
            if self.text.stopped:
                reason = "stop"
            elif len(self.generated) >= self.parameters.max_tokens or self.length >= max_length:
                reason = "length"
        if reason is not None:
            text += self.text.finish()
            if self.text.stopped:
                reason = "stop"
        return text, reason

    def take_scores(self) -> tuple[PromptToken, ...]:
        """Return the scores of the prompt once."""
        scores, self.prompt_scores = self.prompt_scores, ()
        return scores


def end_tokens_of(model: Any, tokenizer: Any) -> frozenset[int]:
    """Return the IDs that end a sequence: those of the generation configuration and the tokenizer, as in vLLM."""
    configured = model.generation_config.eos_token_id
    ids = configured if isinstance(configured, list) else [configured]
    return frozenset(one for one in [*ids, tokenizer.eos_token_id] if one is not None)


def decoder_of(tokenizer: Any, *, skip_special_tokens: bool) -> Decode:
    """Return a function from token IDs to text."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None and not getattr(tokenizer, "clean_up_tokenization_spaces", False):
        # The wrapper adds nothing in this case, and takes several times as long.
        return lambda ids: str(backend.decode(list(ids), skip_special_tokens=skip_special_tokens))
    return lambda ids: str(tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens))
