"""Generates with vLLM's in-process `AsyncLLM`, on a GPU.

Written against vLLM 0.22.1: its documented streaming example (docs.vllm.ai/en/v0.22.1/examples/deployment/
async_llm_streaming), and, for `AsyncLLM.generate`, `SamplingParams`, `RequestOutput` and `Logprob`, the sources of its
repository around that version. It has not been run with vLLM or on a GPU yet.

vLLM gets token ids and gives token ids. Chat templates, text, stop strings, limits and the queue are this package's
own, the same as with the emulator's engine.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import importlib
import logging
import os
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.emulator.engine.checkpoints import ModelError, check_checkpoint
from runner.emulator.engine.loading import LoadedModel, prepare
from runner.emulator.engine.protocol import ModelSource, ServingSpec
from runner.emulator.engine.serving.admission import Admission, Request
from runner.emulator.engine.serving.delivery import deliver_end, deliver_token
from runner.emulator.engine.serving.interface import ENGINE_VARIABLE, EngineKind, ServedModel, check_prompt
from runner.emulator.engine.serving.metrics import Metrics
from runner.emulator.engine.serving.parameters import SamplingParameters
from runner.emulator.engine.serving.sampling import Choice
from runner.emulator.engine.serving.scores import PromptToken, Scored
from runner.emulator.engine.serving.sequence import Prompt, Sequence, decoder_of, end_tokens_of
from runner.emulator.engine.sources import describe
from runner.emulator.errors import invalid

logger = logging.getLogger(__name__)

_HOTTEST = 2.0
"""Newer versions' `SamplingParams` refuse temperatures above."""


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """The configurations of a model whose weights another process loads."""

    config: Any
    generation_config: Any


def load_description(source: ModelSource, *, cache_directory: str) -> LoadedModel:
    """Load everything about a source but its weights, which vLLM loads itself. CUDA stays untouched.

    Raises:
        ModelError: the folder is no checkpoint that may be loaded.
    """
    from transformers import AutoConfig, AutoProcessor, AutoTokenizer, GenerationConfig

    directory = prepare(source, Path(cache_directory))
    images = "vision_config" in check_checkpoint(directory)[0]
    common = {"local_files_only": True, "trust_remote_code": False}
    try:
        config = AutoConfig.from_pretrained(directory, **common)
        written = (directory / "generation_config.json").exists()
        generation = (
            GenerationConfig.from_pretrained(directory, local_files_only=True)
            if written
            else GenerationConfig.from_model_config(config)
        )
        processor = AutoProcessor.from_pretrained(directory, **common) if images else None
        tokenizer = processor.tokenizer if processor else AutoTokenizer.from_pretrained(directory, **common)
    except Exception as error:  # libraries raise what they like at a configuration that makes no sense
        raise ModelError("INVALID_ARGUMENT", f"The checkpoint cannot be loaded: {error}") from error
    tokenizer.chat_template = tokenizer.chat_template or getattr(processor, "chat_template", None)
    card = {**describe(source), "directory": str(directory)}
    return LoadedModel(ModelDescription(config, generation), tokenizer, processor, card)


def engine_arguments(spec: ServingSpec, loaded: ServedModel, max_length: int) -> dict[str, Any]:
    """Return the arguments of vLLM's `AsyncEngineArgs`."""
    arguments: dict[str, Any] = {
        "model": loaded.card["directory"],
        "max_model_len": max_length,
        "max_num_seqs": max(1, spec.max_batch),
        "trust_remote_code": False,
        "disable_log_stats": True,
    }
    if loaded.processor is not None:
        arguments["limit_mm_per_prompt"] = {"image": 0}  # no memory for images, which this engine does not take
    return arguments


def sampling_arguments(
    parameters: SamplingParameters, *, index: int, end_tokens: frozenset[int], room: int
) -> dict[str, Any]:
    """Return the arguments of vLLM's `SamplingParams` for one sequence, but `output_kind`.

    Args:
        parameters: of the request.
        index: of the sequence among the request's `n`; offsets the seed, and only the first scores the prompt.
        end_tokens: ids that end it.
        room: tokens that fit after the prompt.
    """
    limit = min(parameters.max_tokens, room)
    return {
        "n": 1,
        "max_tokens": limit,
        "min_tokens": min(parameters.min_tokens, limit),
        "temperature": 0.0 if parameters.greedy else parameters.temperature,
        "top_p": parameters.top_p,
        "top_k": parameters.top_k,
        "min_p": parameters.min_p,
        "presence_penalty": parameters.presence_penalty,
        "frequency_penalty": parameters.frequency_penalty,
        "repetition_penalty": parameters.repetition_penalty,
        "logit_bias": dict(parameters.logit_bias) or None,
        # vLLM takes -1 for no seed.
        "seed": None if parameters.seed is None else (parameters.seed + index) % 2**63,
        "stop_token_ids": sorted(end_tokens),
        "ignore_eos": parameters.ignore_eos,
        "logprobs": parameters.logprobs,
        "prompt_logprobs": None if index else parameters.prompt_logprobs,
        "detokenize": False,
        **({} if parameters.schema is None else {"structured_outputs": {"json": dict(parameters.schema)}}),
    }


def open_vllm(spec: ServingSpec, loaded: ServedModel, *, max_length: int) -> VllmEngine:
    """Start vLLM with a model's weights. Call it in the running event loop; it blocks until they are loaded.

    Raises:
        ModelError: FAILED_PRECONDITION when vLLM does not start.
    """
    # This process was forked from one that has loaded torch: vLLM's own workers must not be.
    os.environ["VLLM_WORKER_MULTIPROCESSING_METHOD"] = "spawn"
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    try:
        sampling = importlib.import_module("vllm.sampling_params")
        arguments = importlib.import_module("vllm.engine.arg_utils").AsyncEngineArgs(
            **engine_arguments(spec, loaded, max_length)
        )
        llm = importlib.import_module("vllm.v1.engine.async_llm").AsyncLLM.from_engine_args(arguments)
    except Exception as error:
        logger.exception("vLLM does not start")
        raise ModelError(
            "FAILED_PRECONDITION",
            f"vLLM does not start with this model: {type(error).__name__}: {error}. To serve it with the emulator's "
            f"own engine: export {ENGINE_VARIABLE}=torch, then start the emulator again.",
        ) from error

    def make(values: Mapping[str, Any]) -> Any:
        structured = values.get("structured_outputs")
        if structured is not None:
            values = {**values, "structured_outputs": sampling.StructuredOutputsParams(**structured)}
        return sampling.SamplingParams(**values, output_kind=sampling.RequestOutputKind.DELTA)

    return VllmEngine(llm, make, loaded, max_length=max_length, max_batch=spec.max_batch, max_queue=spec.max_queue)


class VllmEngine(Admission):
    """A `ServingEngine`. Everything happens on the event loop's thread; vLLM computes in processes of its own.

    At most `max_batch` sequences are given to vLLM, so that the others wait here, where the queue is bounded.

    Args:
        llm: vLLM's `AsyncLLM`.
        make_sampling: from `sampling_arguments` to vLLM's `SamplingParams`, with outputs as deltas.
        loaded: configurations and tokenizer of the model.
        max_length: tokens of prompt and output.
        max_batch: sequences generated at once.
        max_queue: sequences that may wait.
    """

    def __init__(
        self,
        llm: Any,
        make_sampling: Callable[[Mapping[str, Any]], Any],
        loaded: ServedModel,
        *,
        max_length: int,
        max_batch: int = 16,
        max_queue: int = 256,
    ) -> None:
        self.kind: EngineKind = "vllm"
        self.max_length = max_length
        self.vocabulary_size = int(loaded.model.config.get_text_config().vocab_size)
        tokenizer = copy.deepcopy(loaded.tokenizer)
        super().__init__(
            decoder_of(tokenizer, skip_special_tokens=True),
            decoder_of(tokenizer, skip_special_tokens=False),
            end_tokens_of(loaded.model, loaded.tokenizer),
            max_queue=max_queue,
            metrics=Metrics(),
        )
        self._llm = llm
        self._make_sampling = make_sampling
        self._max_batch = max(1, max_batch)
        self._running: dict[Sequence, asyncio.Task[None]] = {}

    @property
    def death(self) -> str | None:
        """Return vLLM's error when its engine core has died."""
        if not self._llm.errored:
            return None
        error = self._llm.dead_error
        return f"{type(error).__name__}: {error}"

    def start(self) -> None:
        """Do nothing: vLLM runs already."""

    def close(self) -> None:
        """Cancel everything and end vLLM's processes."""
        self._closing = True
        self.cancel([*self._waiting, *self._running])
        self._llm.shutdown()

    def check(self, prompt: Prompt, parameters: SamplingParameters) -> None:
        """Raise INVALID_ARGUMENT when a prompt is too long, has images, or a parameter is none of vLLM's."""
        check_prompt(prompt, parameters, self.max_length, self.vocabulary_size)
        if parameters.temperature > _HOTTEST:
            raise invalid(f"temperature: vLLM takes at most {_HOTTEST:g}, got {parameters.temperature:g}")
        if prompt.image_inputs:
            raise invalid(
                "This server uses vLLM, which gets no images. To send images, use the emulator's own engine: "
                f"export {ENGINE_VARIABLE}=torch, then start the emulator again."
            )

    def submit_all(self, requests: Iterable[Request]) -> list[Sequence]:
        """Queue the sequences of several prompts: all of them or none. See `ServingEngine`."""
        sequences = self._sequences(requests)
        self._queue(sequences)
        self._admit()
        return sequences

    def cancel(self, sequences: Iterable[Sequence]) -> None:
        """Give up sequences that have not ended; vLLM aborts a request whose generator is cancelled."""
        for sequence in sequences:
            if sequence.finish_reason is not None:
                continue
            sequence.cancelled = True
            if sequence in self._running:
                self._running[sequence].cancel()
            else:
                self._waiting.remove(sequence)
            deliver_end(sequence, self.metrics, "cancelled")
        self._count()

    def _admit(self) -> None:
        while self._waiting and len(self._running) < self._max_batch and not self._closing:
            sequence = self._waiting.popleft()
            task = asyncio.get_running_loop().create_task(self._generate(sequence))
            self._running[sequence] = task
            task.add_done_callback(functools.partial(self._left, sequence))
        self._count()

    def _left(self, sequence: Sequence, _task: asyncio.Task[None]) -> None:
        del self._running[sequence]
        self._admit()

    def _count(self) -> None:
        self.metrics.waiting = len(self._waiting)
        self.metrics.running = len(self._running)

    async def _generate(self, sequence: Sequence) -> None:
        try:
            arguments = sampling_arguments(
                sequence.parameters,
                index=sequence.index,
                end_tokens=sequence.end_tokens,
                room=self.max_length - len(sequence.prompt.ids),
            )
            stream = self._llm.generate(
                {"prompt_token_ids": list(sequence.prompt.ids)}, self._make_sampling(arguments), uuid.uuid4().hex
            )
            # Closing the generator aborts the request, if vLLM would continue: at a stop string, which only we know.
            async with contextlib.aclosing(stream):
                async for output in stream:
                    self._take(sequence, output)
                    if sequence.finish_reason is not None and not output.finished:
                        break
            deliver_end(sequence, self.metrics, "error", "vLLM's answer has no end")
        except Exception as error:
            if sequence.finish_reason is None:
                logger.exception("vLLM failed on a sequence")
            deliver_end(sequence, self.metrics, "error", f"{type(error).__name__}: {error}")

    def _take(self, sequence: Sequence, output: Any) -> None:
        """Deliver what one `RequestOutput` adds."""
        completion = output.outputs[0]
        if sequence.scores_prompt and output.prompt_logprobs:
            sequence.prompt_scores = prompt_tokens(
                sequence.prompt.ids, output.prompt_logprobs, sequence.parameters.prompt_logprobs or 0
            )
        logprobs = completion.logprobs or [None] * len(completion.token_ids)
        for token, places in zip(completion.token_ids, logprobs, strict=True):
            if not sequence.generated:
                self.metrics.prompt_tokens += len(sequence.prompt.ids)
            choice = choice_of(token, places, sequence.parameters.logprobs)
            deliver_token(sequence, choice, self.max_length, self.metrics)
            if sequence.finish_reason is not None:
                return
        if completion.finish_reason in ("stop", "length"):
            # vLLM knows of an end that we do not, such as a tokenizer's that no configuration names.
            deliver_end(sequence, self.metrics, completion.finish_reason, text=sequence.text.finish())
        elif completion.finish_reason is not None:
            deliver_end(sequence, self.metrics, "error", f"vLLM ended the answer: {completion.finish_reason}")


def choice_of(token: int, places: Mapping[int, Any] | None, alternatives: int | None) -> Choice:
    """Return a generated token with its log probabilities.

    Args:
        token: id.
        places: vLLM's `Logprob` (`logprob`, `rank`) by token id: the most likely and the token itself.
        alternatives: how many of the most likely were asked for.
    """
    if alternatives is None or places is None:
        return Choice(token)
    best = tuple((other, logprob) for other, logprob, _ in _best(places, alternatives))
    return Choice(token, float(places[token].logprob), best)


def prompt_tokens(
    ids: list[int], places: Iterable[Mapping[int, Any] | None], alternatives: int
) -> tuple[PromptToken, ...]:
    """Return the scores of a prompt's tokens but the first from vLLM's `prompt_logprobs`, whose first is None."""
    return tuple(
        PromptToken((token, float(place[token].logprob), int(place[token].rank)), _best(place, alternatives))
        for token, place in zip(ids, places, strict=True)
        if place is not None
    )


def _best(places: Mapping[int, Any], count: int) -> tuple[Scored, ...]:
    ranked = sorted((int(one.rank), token, float(one.logprob)) for token, one in places.items())
    return tuple((token, logprob, rank) for rank, token, logprob in ranked if rank <= count)
