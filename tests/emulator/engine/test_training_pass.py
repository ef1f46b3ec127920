"""The training process's own passes compute what transformers' and PEFT's do."""

from __future__ import annotations

import functools
import random
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.emulator.engine.dataset import IGNORED, TokenizedExample
from runner.emulator.engine.protocol import ModelSource

pytestmark = pytest.mark.training

FAMILIES = ("llama3", "llama4", "gemma3", "qwen3")
MODES = ("FULL", "PEFT_ADAPTER")
PADDING = 3


def example_of(tokens: list[int], learned: list[bool]) -> TokenizedExample:
    """Return an example that learns some tokens, and the last but one in any case."""
    last = len(tokens) - 2
    kept = [place > 0 and (asked or place == last) for place, asked in enumerate(learned)]
    return TokenizedExample(1, tokens, [t if k else IGNORED for t, k in zip(tokens, kept, strict=True)])


@st.composite
def examples(draw: st.DrawFn) -> list[TokenizedExample]:
    """Draw examples of few different tokens, many of which share beginnings; some are equal."""
    made = []
    for length in draw(st.lists(st.integers(4, 60), min_size=1, max_size=8)):
        generator = random.Random(draw(st.integers(0, 3)))
        tokens = [generator.randrange(10, 14) for _ in range(length)]
        made.append(example_of(tokens, [generator.random() < 0.4 for _ in range(length)]))
    return made


@functools.cache
def models(family: Literal["llama3", "llama4", "gemma3", "qwen3"], mode: str, cache: Path) -> tuple[Any, Any]:
    """Return a model as the training process makes it, with its passes, and one of these weights as libraries do."""
    import torch

    from runner.emulator.engine.fused import fuse
    from runner.emulator.engine.loading import load
    from runner.emulator.engine.lora import add_adapters
    from runner.emulator.engine.packing import TrainingPass

    made = []
    for _ in range(2):
        model = load(ModelSource(kind="tiny", family=family), cache_directory=str(cache), threads=1).model.float()
        if mode == "PEFT_ADAPTER":
            model = add_adapters(model, 4)
            generator = torch.Generator().manual_seed(0)
            for name, parameter in model.named_parameters():
                if "lora_" in name:  # one half starts as zero, and would hide the other's gradient
                    parameter.data.normal_(std=0.05, generator=generator)
        made.append(model.train())
    fuse(made[0])
    threads = 2 if mode == "PEFT_ADAPTER" else None
    return TrainingPass(made[0], PADDING, autocast=False, threads=threads), made


def reference_loss(model: Any, batch: list[TokenizedExample]) -> Any:
    """Return the summed loss of padded examples by the model's own pass."""
    import torch

    width = max(len(one.tokens) for one in batch)
    tokens = torch.tensor([one.tokens + [PADDING] * (width - len(one.tokens)) for one in batch])
    labels = torch.tensor([one.labels + [IGNORED] * (width - len(one.labels)) for one in batch])
    mask = torch.tensor([[1] * len(one.tokens) + [0] * (width - len(one.tokens)) for one in batch])
    logits = model(input_ids=tokens, attention_mask=mask, use_cache=False).logits[:, :-1]
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), reduction="sum")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=15, deadline=None)
@given(batch=examples())
def test_losses_and_gradients_are_those_of_the_libraries(
    family: Any, mode: str, model_cache: Path, batch: list[TokenizedExample]
) -> None:
    import torch

    passes, (ours, theirs) = models(family, mode, model_cache)
    for model in (ours, theirs):
        model.zero_grad()
    loss = reference_loss(theirs, batch)
    torch.autograd.backward(loss / 7)
    assert passes.backward(batch, 7) == pytest.approx(float(loss.detach()), rel=1e-5)
    assert passes.loss(batch) == pytest.approx(float(loss.detach()), rel=1e-5)
    expected = {name: one.grad for name, one in theirs.named_parameters() if one.grad is not None}
    found = {name: one.grad for name, one in ours.named_parameters() if one.grad is not None}
    assert found.keys() == expected.keys()
    largest = max(float(one.abs().max()) for one in expected.values())
    for name, gradient in expected.items():
        apart = float((found[name] - gradient).abs().max())
        assert found[name].stride() == gradient.stride(), name
        assert apart <= 1e-4 * float(gradient.abs().max()) + 1e-6 * largest, name


@pytest.mark.parametrize("family", FAMILIES)
def test_what_examples_share_is_computed_once(family: Any, model_cache: Path) -> None:
    passes, (model, _) = models(family, "FULL", model_cache)
    seen = []
    hook = model.get_input_embeddings().register_forward_hook(lambda _m, given, _o: seen.append(given[0].numel()))
    shared = list(range(10, 30))
    batch = [example_of([*shared, number, 5, 6, 7], [False] * 24) for number in range(40, 48)]
    passes.loss(batch)
    hook.remove()
    # Of each example the tokens after the shared ones, but for the last two: the last to learn is the last but one.
    assert seen == [20 + 8 * 2]


def test_shares_of_threads_add_up_to_the_same_bits_every_time(model_cache: Path) -> None:
    passes, (model, _) = models("qwen3", "PEFT_ADAPTER", model_cache)
    generator = random.Random(2)
    batch = [example_of([10, 11, *(generator.randrange(10, 90) for _ in range(40))], [True] * 42) for _ in range(8)]
    found = []
    for _ in range(5):
        model.zero_grad()
        loss = passes.backward(batch, 1)
        found.append((loss, [one.grad.tolist() for one in model.parameters() if one.grad is not None]))
    assert all(one == found[0] for one in found)


@pytest.mark.parametrize("family", ["gemma3", "llama4"])
def test_examples_beyond_a_window_are_padded_instead(family: Any, model_cache: Path) -> None:
    passes, (model, theirs) = models(family, "FULL", model_cache)
    text = model.config.get_text_config()
    length = 2 + (getattr(text, "sliding_window", None) or text.attention_chunk_size)
    generator = random.Random(1)
    batch = [
        example_of([generator.randrange(10, 90) for _ in range(size)], [True] * size) for size in (length, length - 9)
    ]
    assert passes.loss(batch) == pytest.approx(float(reference_loss(theirs, batch).detach()), rel=1e-5)
