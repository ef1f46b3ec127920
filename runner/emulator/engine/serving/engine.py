"""Continuous batching: one thread owns the model, and sequences join and leave between two tokens.

A sequence waits in a bounded queue, joins when a row and cache positions are free, and leaves at its end. If the
sequences outgrow the cache, the one that joined last returns to the head of the queue and is read again later with its
generated tokens, so that nothing is lost, and the oldest sequence always reaches its end. Short prompts are read before
long ones. A long prompt is read in pieces, and every other sequence gets a token between two pieces.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any

import torch

from runner.emulator.engine.memory import lacking_memory
from runner.emulator.engine.serving.admission import Admission, Request
from runner.emulator.engine.serving.batch import Batch
from runner.emulator.engine.serving.compiled import decoder_for
from runner.emulator.engine.serving.constraints import Constraint, Grammars
from runner.emulator.engine.serving.delivery import deliver_end, deliver_token
from runner.emulator.engine.serving.dense_batch import DenseBatch
from runner.emulator.engine.serving.interface import EngineKind, check_prompt
from runner.emulator.engine.serving.metrics import Metrics
from runner.emulator.engine.serving.parameters import SamplingParameters
from runner.emulator.engine.serving.sampling import Choice
from runner.emulator.engine.serving.scores import PromptScorer
from runner.emulator.engine.serving.sequence import (
    Prompt,
    Sequence,
    decoder_of,
    end_tokens_of,
)

logger = logging.getLogger(__name__)

CACHE_POSITIONS = 32768
"""Maximum number of rows times padded width of the cache. A position of SmolLM2-135M takes 30 layers x 3 heads x 64 x 2
bfloat16 = 23 kB, so 0.75 GB in total; a position of a tiny stand-in about 2 kB."""

_PREFILL_POSITIONS = 1024
"""Prompt positions that are read between two tokens, so that long prompts do not delay other sequences for long."""

_GROUP_POSITIONS = 512
"""Prompt positions that are read in one pass: enough for fast products, and first tokens are sent before the next pass.
Prompt positions that are read in one pass: enough for fast products, and first tokens are sent before the next pass."""

_HEADROOM = 128
"""Free positions per row that are required before another one joins, so that it does not have to leave immediately."""


class Engine(Admission):
    """Generates any number of sequences with one model.

    Args:
        model: a transformers model in evaluation mode.
        tokenizer: used only by the engine's thread.
        max_length: maximum tokens of prompt and output.
        max_batch: maximum number of concurrent sequences.
        max_queue: maximum number of waiting sequences.
        metrics: the metrics.
        cache_positions: maximum of rows times width of the cache.
        scorer: the scorer of this model's prompts; None creates one.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        max_length: int,
        max_batch: int = 16,
        max_queue: int = 256,
        metrics: Metrics | None = None,
        cache_positions: int = CACHE_POSITIONS,
        scorer: PromptScorer | None = None,
    ) -> None:
        self.kind: EngineKind = "torch"
        self.max_length = max_length
        self.vocabulary_size = int(model.get_output_embeddings().weight.shape[0])
        super().__init__(
            decoder_of(tokenizer, skip_special_tokens=True),
            decoder_of(tokenizer, skip_special_tokens=False),
            end_tokens_of(model, tokenizer),
            max_queue=max_queue,
            metrics=metrics or Metrics(),
        )
        self._grammars = Grammars(tokenizer, self.vocabulary_size, self.end_tokens)
        threads = torch.get_num_threads()
        decoder = decoder_for(model, threads=threads)
        self._batch: Batch | DenseBatch = (
            Batch(model, tokenizer.pad_token_id or 0) if decoder is None else DenseBatch(decoder, threads=threads)
        )
        self._scorer = scorer or PromptScorer(model)
        self._max_batch = max(1, max_batch)
        self._cache_positions = cache_positions
        self._joining: list[Sequence] = []
        self._running: list[Sequence] = []
        self._ahead: Sequence | None = None
        """A sequence that waits while its prompt is read in pieces."""
        self._changed = threading.Condition()
        self._death: str | None = None
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    @property
    def death(self) -> str | None:
        """Return the error that ended the engine's thread."""
        return self._death

    def start(self) -> None:
        """Start the engine's thread."""
        self._thread.start()

    def close(self, timeout_seconds: float = 5) -> None:
        """Cancel everything and end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout_seconds)

    def submit_all(self, requests: Iterable[Request]) -> list[Sequence]:
        """Queue the sequences of several prompts: all of them or none. See `ServingEngine`."""
        sequences = self._sequences(requests)
        with self._changed:
            self._queue(sequences)
            self._count_queue()
            self._changed.notify()
        return sequences

    def cancel(self, sequences: Iterable[Sequence]) -> None:
        """Cancel unfinished sequences. Their rows are free before the next token."""
        with self._changed:
            for sequence in sequences:
                sequence.cancelled = True
            self._changed.notify()

    def check(self, prompt: Prompt, parameters: SamplingParameters) -> None:
        """Raise INVALID_ARGUMENT if a prompt is too long or a token ID is not in the vocabulary."""
        check_prompt(prompt, parameters, self.max_length, self.vocabulary_size)

    def _constraint(self, parameters: SamplingParameters) -> Constraint | None:
        return None if parameters.schema is None else self._grammars.constraint(parameters.schema)

    # Everything below runs on the engine's thread.

    def _run(self) -> None:
        try:
            self._generate()
        except BaseException as error:
            # Errors of a sequence are handled where they occur; an error here would leave all waiting clients without
            # an answer.
            logger.exception("the engine died")
            with self._changed:
                self._death = f"{type(error).__name__}: {error}"
                for sequence in [*self._running, *self._joining, *self._waiting]:
                    deliver_end(sequence, self.metrics, "error", self._death)

    def _generate(self) -> None:
        with torch.inference_mode():
            while True:
                joining = self._wait_and_take()
                if joining is None:
                    break
                if self._ahead is not None:
                    self._guarded([self._ahead], functools.partial(self._read_ahead, self._ahead))
                for group in _prefill_groups(joining):
                    self._guarded(group, functools.partial(self._prefill, group))
                if self._running:
                    self._guarded(self._running, self._step)
        for sequence in [*self._running, *self._waiting]:
            deliver_end(sequence, self.metrics, "cancelled")

    def _wait_and_take(self) -> list[Sequence] | None:
        """Wait for work, remove cancelled sequences and return those that join; None at the end."""
        with self._changed:
            while not (self._waiting or self._running or self._closing):
                self._changed.wait()
            if self._closing:
                return None
            for sequence in [one for one in self._waiting if one.cancelled or one.finish_reason is not None]:
                self._waiting.remove(sequence)
                deliver_end(sequence, self.metrics, "cancelled")
            for sequence in self._running:
                if sequence.cancelled:
                    deliver_end(sequence, self.metrics, "cancelled")
            self._leave()
            self._make_room()
            joining = self._joining = self._take()
            self._count_queue(len(joining))
            return joining

    def _make_room(self) -> None:
        """Return the last joined sequences to the queue until another token per row fits."""
        while len(self._running) > 1 and len(self._running) * (self._batch.width + 1) > self._cache_positions:
            self._waiting.appendleft(self._running.pop())
            self._batch.keep(list(range(len(self._running))))
            self.metrics.preempted += 1

    def _take(self) -> list[Sequence]:
        """Take sequences from the queue in order, as far as rows, cache and the time between two tokens allow.

        Prompts that are too long for one pass stay in the queue; the first of them is read ahead.
        """
        taken: list[Sequence] = []
        self._ahead = None
        positions, width = 0, self._batch.width
        for sequence in list(self._waiting):
            rows = len(self._running) + len(taken) + 1
            width = max(width, sequence.length)
            if rows > self._max_batch or (rows > 1 and rows * (width + _HEADROOM) > self._cache_positions):
                break
            unread = self._batch.unread(sequence.ids)
            if unread > _GROUP_POSITIONS and not sequence.scores_prompt and isinstance(self._batch, DenseBatch):
                self._ahead = self._ahead or sequence
                continue
            if taken and positions + unread > _PREFILL_POSITIONS:
                break
            positions += unread
            taken.append(sequence)
        for sequence in taken:
            self._waiting.remove(sequence)
        return taken

    def _read_ahead(self, sequence: Sequence) -> None:
        assert isinstance(self._batch, DenseBatch)  # noqa: S101 - see `_take`
        ids = sequence.ids
        known = len(ids) - self._batch.unread(ids)
        self._batch.read(ids[: known + _GROUP_POSITIONS])

    def _guarded(self, sequences: list[Sequence], work: Callable[[], None]) -> None:
        """Do `work`; if it raises, fail its sequences and continue with the others."""
        try:
            work()
        except Exception as error:
            logger.exception("the model failed on %d sequences", len(sequences))
            said = f"{type(error).__name__}: {error}"
            if (lacking := lacking_memory(error)) is not None:
                said = f"{lacking} is full; ask for less at once, or for shorter answers."
                torch.cuda.empty_cache()
            for sequence in list(sequences):
                deliver_end(sequence, self.metrics, "error", said)
            if self._batch.rows != len(self._running):
                # The rows no longer match the running sequences.
                for sequence in self._running:
                    deliver_end(sequence, self.metrics, "error", said)
                self._running = []
                self._batch.clear()
            self._leave()

    def _prefill(self, sequences: list[Sequence]) -> None:
        scored = sequences[0].scores_prompt
        logits = self._batch.join(
            [one.ids for one in sequences],
            sequences[0].prompt.image_inputs,
            self._scorer if scored else None,
        )
        self._running += sequences
        if scored:
            for row, one in enumerate(sequences):
                one.prompt_scores = self._scorer.score(row, one.prompt.ids, one.parameters.prompt_logprobs or 0)
            self._scorer.forget()
        self.metrics.prompt_tokens += sum(len(one.prompt.ids) for one in sequences if not one.generated)
        self.metrics.reused_tokens = self._batch.reused
        self._choose(sequences, logits)
        self._leave()

    def _step(self) -> None:
        logits = self._batch.step([one.generated[-1] for one in self._running])
        self.metrics.steps += 1
        self._choose(self._running, logits)
        self._leave()

    def _choose(self, sequences: list[Sequence], logits: torch.Tensor) -> None:
        # On the CPU, NumPy finds the maximum of a large vocabulary several times faster.
        best = (logits if logits.is_cuda else logits.float().numpy()).argmax(-1).tolist()
        if not all(one.sampler.plain for one in sequences):
            logits = logits.cpu()
        for row, sequence in enumerate(sequences):
            if sequence.sampler.plain:
                choice = Choice(best[row])
            else:
                choice = sequence.sampler.choose(logits[row], len(sequence.generated))
            deliver_token(sequence, choice, self.max_length, self.metrics)

    def _leave(self) -> None:
        """Remove the rows of finished sequences from the batch."""
        rows = [row for row, one in enumerate(self._running) if one.finish_reason is None]
        if len(rows) < len(self._running):
            self._batch.keep(rows)
            self._running = [self._running[row] for row in rows]
            self.metrics.running = len(rows)

    def _count_queue(self, joining: int = 0) -> None:
        self.metrics.waiting = len(self._waiting)
        self.metrics.running = len(self._running) + joining


def _prefill_groups(sequences: list[Sequence]) -> list[list[Sequence]]:
    """Return the prompts for one pass, the shortest first: texts together, those to be scored alone, images alone."""
    groups: list[list[Sequence]] = []
    texts = sorted((one for one in sequences if not one.prompt.image_inputs), key=lambda one: one.length)
    for scored in (False, True):
        group: list[Sequence] = []
        for one in texts:
            if one.scores_prompt is not scored:
                continue
            if group and (len(group) + 1) * one.length > _GROUP_POSITIONS:
                groups.append(group)
                group = []
            group.append(one)
        groups += [group] if group else []
    return groups + [[one] for one in sequences if one.prompt.image_inputs]
