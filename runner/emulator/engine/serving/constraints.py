"""Constraints for text that must follow a JSON schema: the allowed next tokens, with llguidance."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch

from runner.emulator.errors import ApiError

_BITS = torch.arange(8, dtype=torch.uint8)


def check_schema(schema: Mapping[str, Any]) -> None:
    """Check that a schema is supported. Raises ValueError with the error; ApiError without llguidance."""
    matcher = _library().LLMatcher
    said = matcher.validate_grammar(_grammar(schema))
    if said:
        raise ValueError(f"is no JSON schema that text can be held to: {said.splitlines()[0]}")


class Grammars:
    """Creates constraints for one model.

    Args:
        tokenizer: the tokenizer of the model.
        vocabulary_size: length of its logits.
        end_tokens: IDs that end a sequence; they are allowed when the text is complete.
    """

    def __init__(self, tokenizer: Any, vocabulary_size: int, end_tokens: frozenset[int]) -> None:
        self._tokenizer = tokenizer
        self._vocabulary_size = vocabulary_size
        self._end_tokens = end_tokens
        self._tokens: Any = None

    def constraint(self, schema: Mapping[str, Any]) -> Constraint:
        """Return the constraint of one sequence."""
        library = _library()
        if self._tokens is None:  # takes a while with a large vocabulary
            from llguidance.hf import from_tokenizer

            self._tokens = from_tokenizer(
                self._tokenizer, n_vocab=self._vocabulary_size, eos_token=sorted(self._end_tokens)
            )
        return Constraint(library.LLMatcher(self._tokens, _grammar(schema)), self._vocabulary_size)


class Constraint:
    """The allowed next tokens of one sequence."""

    def __init__(self, matcher: Any, vocabulary_size: int) -> None:
        self._matcher = matcher
        self._vocabulary_size = vocabulary_size

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Return logits without the tokens that are not allowed. Raises ApiError if the schema allows none."""
        mask = torch.frombuffer(bytearray(self._matcher.compute_bitmask()), dtype=torch.uint8)
        if self._matcher.is_error():
            raise ApiError("INVALID_ARGUMENT", f"The schema cannot be followed: {self._matcher.get_error()}")
        allowed = ((mask.unsqueeze(1) >> _BITS) & 1).flatten()[: self._vocabulary_size].bool()
        return logits.masked_fill(~allowed.to(logits.device), -torch.inf)

    def take(self, token: int) -> None:
        """Continue after a token."""
        self._matcher.consume_token(token)


def _grammar(schema: Mapping[str, Any]) -> str:
    # Without optional white space, because a small model would write nothing else.
    made: str = _library().LLMatcher.grammar_from_json_schema(
        json.dumps(schema), defaults={"whitespace_flexible": False}
    )
    return made


def _library() -> Any:
    try:
        import llguidance
    except ImportError as error:
        raise ApiError(
            "FAILED_PRECONDITION", 'Answers by a schema need llguidance: `pip install "open-model-tuning[local]"`.'
        ) from error
    return llguidance
