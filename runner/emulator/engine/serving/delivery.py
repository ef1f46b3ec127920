"""The effects of a token or an end in an engine: text for the client, and counts."""

from __future__ import annotations

import time

from runner.emulator.engine.serving.metrics import Metrics
from runner.emulator.engine.serving.sampling import Choice
from runner.emulator.engine.serving.sequence import Delta, FinishReason, Sequence


def deliver_token(sequence: Sequence, choice: Choice, max_length: int, metrics: Metrics) -> None:
    """Add a generated token to a sequence, and end it at an end token, a stop string or a limit.

    Args:
        sequence: a sequence that has not ended.
        choice: the token, with its log probabilities if requested.
        max_length: maximum number of tokens of prompt and output together.
        metrics: the metrics of the engine.
    """
    if not sequence.generated:
        metrics.first_tokens += 1
        metrics.first_token_seconds += time.monotonic() - sequence.created
    text, reason = sequence.take(choice.token, max_length)
    metrics.generated_tokens += 1
    if reason is None:
        sequence.deliver(Delta(text, (choice,), prompt=sequence.take_scores()))
    else:
        deliver_end(sequence, metrics, reason, text=text, choices=(choice,))


def deliver_end(
    sequence: Sequence,
    metrics: Metrics,
    reason: FinishReason,
    error: str = "",
    *,
    text: str = "",
    choices: tuple[Choice, ...] = (),
) -> None:
    """End a sequence and send the remaining text. Does nothing if it has ended."""
    if sequence.finish_reason is not None:
        return
    sequence.finish_reason = reason
    metrics.finished[reason] += 1
    metrics.sequence_seconds += time.monotonic() - sequence.created
    sequence.deliver(Delta(text, choices, reason, error, sequence.take_scores()))
