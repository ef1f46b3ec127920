"""The engine against the model itself: whatever shares its batch, a sequence gets the tokens it would get alone."""

from __future__ import annotations

import queue
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from PIL import Image

from runner.emulator.engine.loading import LoadedModel, load
from runner.emulator.engine.protocol import ModelSource
from runner.emulator.engine.serving.engine import Engine
from runner.emulator.engine.serving.parameters import SamplingParameters
from runner.emulator.engine.serving.prompts import PromptEncoder
from runner.emulator.engine.serving.sequence import Delta, Prompt
from runner.emulator.errors import ApiError

pytestmark = pytest.mark.training

Family = Literal["llama3", "llama4", "gemma3", "qwen3"]
FAMILIES: tuple[Family, ...] = ("llama3", "llama4", "gemma3", "qwen3")


@pytest.fixture(scope="module")
def llama(model_cache: Path) -> LoadedModel:
    return load(ModelSource(kind="tiny", family="llama3"), cache_directory=str(model_cache), threads=1)


class Collector:
    """Submits to an engine and collects what comes back."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def start(self, prompt: Prompt, **parameters: Any) -> queue.Queue[Delta]:
        deltas: queue.Queue[Delta] = queue.Queue()
        self.engine.submit_all([(prompt, SamplingParameters(**parameters), lambda _index, delta: deltas.put(delta))])
        return deltas

    def collect(self, deltas: queue.Queue[Delta]) -> list[Delta]:
        found = [deltas.get(timeout=60)]
        while found[-1].finish_reason is None:
            found.append(deltas.get(timeout=60))
        assert found[-1].error == ""
        return found

    def run(self, prompt: Prompt, **parameters: Any) -> list[Delta]:
        return self.collect(self.start(prompt, **parameters))


def tokens_of(deltas: list[Delta]) -> list[int]:
    return [choice.token for delta in deltas for choice in delta.choices]


def text_of(deltas: list[Delta]) -> str:
    return "".join(delta.text for delta in deltas)


@pytest.fixture
def engine(llama: LoadedModel) -> Iterator[Engine]:
    engine = Engine(llama.model, llama.tokenizer, max_length=1024)
    engine.start()
    yield engine
    engine.close()


def random_prompts(loaded: LoadedModel, lengths: list[int]) -> list[Prompt]:
    """Make prompts of ordinary tokens: random ones keep an untrained model from repeating itself."""
    numbers = random.Random(7)
    special = set(loaded.tokenizer.all_special_ids)
    ordinary = [one for one in range(len(loaded.tokenizer)) if one not in special]
    return [Prompt([numbers.choice(ordinary) for _ in range(length)]) for length in lengths]


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_output_equals_generate(family: Family, model_cache: Path) -> None:
    """Prompts of 3 to 400 tokens cross the sliding window and the attention chunk of the families that have them."""
    loaded = load(ModelSource(kind="tiny", family=family), cache_directory=str(model_cache), threads=1)
    prompts = random_prompts(loaded, [5, 90, 3, 400, 40, 17, 260, 8])
    expected = []
    for prompt in prompts:
        output = loaded.model.generate(
            torch.tensor([prompt.ids]),
            attention_mask=torch.ones((1, len(prompt.ids)), dtype=torch.long),
            max_new_tokens=24,
            do_sample=False,
            repetition_penalty=1.5,
        )
        expected.append(output[0, len(prompt.ids) :].tolist())
    assert len({tuple(one) for one in expected}) > 5, "the model must not answer every prompt alike"
    engine = Engine(loaded.model, loaded.tokenizer, max_length=1024, max_batch=5)
    engine.start()
    collector = Collector(engine)
    try:
        started = []
        for prompt in prompts:  # five run, three join when others leave
            started.append(collector.start(prompt, max_tokens=24, temperature=0.0, repetition_penalty=1.5))
        assert [tokens_of(collector.collect(one)) for one in started] == expected
    finally:
        engine.close()


@pytest.mark.parametrize("family", FAMILIES)
def test_log_probabilities_equal_one_forward_pass(family: Family, model_cache: Path) -> None:
    """Sampled text, which depends on every position of cache, mask and positions; images among the prompts."""
    loaded = load(ModelSource(kind="tiny", family=family), cache_directory=str(model_cache), threads=1)
    prompts = random_prompts(loaded, [70, 5, 300])
    if loaded.processor is not None:
        encoder = PromptEncoder(loaded.tokenizer, loaded.processor)
        for colour in ("red", "blue"):
            picture = {"type": "image", "image": Image.new("RGB", (80, 50), colour)}
            content = [picture, {"type": "text", "text": f"Is this {colour}?"}]
            prompts.append(encoder.encode_chat([{"role": "user", "content": content}]))
    engine = Engine(loaded.model, loaded.tokenizer, max_length=1024)
    engine.start()
    collector = Collector(engine)
    try:
        started = [
            collector.start(
                prompt, max_tokens=12 + 6 * number, temperature=2.0, seed=number, ignore_eos=True, logprobs=0
            )
            for number, prompt in enumerate(prompts)
        ]
        found = [collector.collect(one) for one in started]
    finally:
        engine.close()
    for prompt, deltas in zip(prompts, found, strict=True):
        assert_as_whole(loaded, prompt, [choice for delta in deltas for choice in delta.choices])


def assert_as_whole(loaded: LoadedModel, prompt: Any, choices: list[Any]) -> None:
    """Compare the probabilities of an answer's tokens with those of the model that reads prompt and answer at once."""
    whole = torch.tensor([[*prompt.ids, *(one.token for one in choices)]])
    inputs = {
        name: torch.nn.functional.pad(value, (0, len(choices))) if name.endswith("token_type_ids") else value
        for name, value in prompt.image_inputs.items()
    }
    inputs = {
        name: value.to(loaded.model.dtype) if value.is_floating_point() else value for name, value in inputs.items()
    }
    with torch.inference_mode():
        logits = loaded.model(input_ids=whole, attention_mask=torch.ones_like(whole), **inputs).logits[0].float()
    logprobs = logits.log_softmax(-1)
    for number, choice in enumerate(choices):
        place = len(prompt.ids) - 1 + number
        assert choice.logprob == pytest.approx(float(logprobs[place, choice.token]), abs=2e-4)


def test_sequences_sent_back_for_want_of_cache_lose_nothing(llama: LoadedModel) -> None:
    prompts = random_prompts(llama, [60, 50, 40, 30, 20, 10])
    engine = Engine(llama.model, llama.tokenizer, max_length=1024, cache_positions=800)
    engine.start()
    collector = Collector(engine)
    parameters = {"max_tokens": 150, "temperature": 1.8, "top_k": 30, "ignore_eos": True, "logprobs": 0}
    started = [collector.start(prompt, seed=seed, **parameters) for seed, prompt in enumerate(prompts)]
    found = [collector.collect(one) for one in started]
    engine.close()
    assert engine.metrics.preempted > 0
    assert engine.metrics.prompt_tokens == sum(len(one.ids) for one in prompts)
    for prompt, deltas in zip(prompts, found, strict=True):
        choices = [choice for delta in deltas for choice in delta.choices]
        assert len(choices) == 150
        # Which sequences share a batch is a matter of time, and with it the last bits of each probability: they are
        # compared, not the tokens drawn.
        assert_as_whole(llama, prompt, choices)


def test_seed_decides_whatever_shares_the_batch(llama: LoadedModel, engine: Engine) -> None:
    collector = Collector(engine)
    [prompt] = random_prompts(llama, [20])
    alone = tokens_of(collector.run(prompt, max_tokens=30, temperature=1.8, top_k=30, seed=11))
    others = [collector.start(one, max_tokens=40, temperature=1.5) for one in random_prompts(llama, [3, 80, 33])]
    shared = tokens_of(collector.run(prompt, max_tokens=30, temperature=1.8, top_k=30, seed=11))
    for one in others:
        collector.collect(one)
    different = tokens_of(collector.run(prompt, max_tokens=30, temperature=1.8, top_k=30, seed=12))
    assert shared == alone
    assert different != alone


def test_a_stop_string_ends_the_text_before_it(llama: LoadedModel, engine: Engine) -> None:
    collector = Collector(engine)
    [prompt] = random_prompts(llama, [20])
    whole = text_of(collector.run(prompt, max_tokens=60, temperature=1.5, seed=3, ignore_eos=True))
    stop = whole[20:24]
    found = collector.run(prompt, max_tokens=60, temperature=1.5, seed=3, ignore_eos=True, stop=(stop, "never there"))
    assert text_of(found) == whole[: whole.index(stop)]
    assert found[-1].finish_reason == "stop"
    assert len(tokens_of(found)) < 60


def test_context_length_ends_a_sequence(llama: LoadedModel) -> None:
    engine = Engine(llama.model, llama.tokenizer, max_length=32)
    engine.start()
    [prompt, full] = random_prompts(llama, [20, 32])
    found = Collector(engine).run(prompt, max_tokens=500, temperature=1.0, ignore_eos=True)
    assert (len(tokens_of(found)), found[-1].finish_reason) == (12, "length")
    with pytest.raises(ApiError, match="maximum context length is 32 tokens"):
        Collector(engine).start(full)
    engine.close()


def test_cancelled_sequences_free_rows_and_queue(llama: LoadedModel) -> None:
    engine = Engine(llama.model, llama.tokenizer, max_length=8192, max_batch=1, max_queue=2)
    engine.start()
    [prompt] = random_prompts(llama, [10])
    deltas: queue.Queue[tuple[str, Delta]] = queue.Queue()
    endless = SamplingParameters(max_tokens=8000, ignore_eos=True)
    running = engine.submit_all([(prompt, endless, lambda _, delta: deltas.put(("running", delta)))])
    deltas.get(timeout=60)
    waiting = [
        engine.submit_all([(prompt, endless, lambda _, delta: deltas.put(("waiting", delta)))]) for _ in range(2)
    ]
    with pytest.raises(ApiError, match="queue of this model is full") as refused:
        engine.submit_all([(prompt, endless, lambda *_: None)])
    assert refused.value.status == "RESOURCE_EXHAUSTED"
    engine.cancel(one for group in [running, *waiting] for one in group)
    ended: list[tuple[str, str]] = []
    while len(ended) < 3:
        name, delta = deltas.get(timeout=60)
        if delta.finish_reason is not None:
            ended.append((name, delta.finish_reason))
    assert sorted(ended) == [("running", "cancelled"), ("waiting", "cancelled"), ("waiting", "cancelled")]
    assert Collector(engine).run(prompt, max_tokens=3)[-1].finish_reason in ("length", "stop")
    engine.close()
    assert (engine.metrics.running, engine.metrics.waiting) == (0, 0)


def test_a_prompt_that_the_model_fails_on_fails_alone(model_cache: Path) -> None:
    loaded = load(ModelSource(kind="tiny", family="llama4"), cache_directory=str(model_cache), threads=1)
    engine = Engine(loaded.model, loaded.tokenizer, max_length=1024)
    engine.start()
    collector = Collector(engine)
    [prompt] = random_prompts(loaded, [10])
    good = collector.start(prompt, max_tokens=200, temperature=1.0, ignore_eos=True)
    broken: queue.Queue[Delta] = queue.Queue()
    wrong_image = {"pixel_values": torch.zeros((1, 3, 56, 56))}  # for a prompt that has no place for one
    engine.submit_all([(Prompt(prompt.ids, wrong_image), SamplingParameters(), lambda _, delta: broken.put(delta))])
    last = broken.get(timeout=60)
    assert last.finish_reason == "error"
    assert "Image features and image tokens do not match" in last.error
    assert len(tokens_of(collector.collect(good))) == 200
    engine.close()


def test_closing_ends_what_runs(llama: LoadedModel) -> None:
    engine = Engine(llama.model, llama.tokenizer, max_length=8192)
    engine.start()
    [prompt] = random_prompts(llama, [10])
    deltas = Collector(engine).start(prompt, max_tokens=8000, ignore_eos=True)
    engine.close()
    with pytest.raises(ApiError, match="shutting down"):
        Collector(engine).start(prompt)
    while (delta := deltas.get(timeout=60)).finish_reason is None:
        pass
    assert delta.finish_reason == "cancelled"
