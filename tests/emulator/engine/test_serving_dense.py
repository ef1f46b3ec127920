"""The own forward pass of dense models: the same numbers as transformers' pass, prompts known and in pieces."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from runner.emulator.engine.loading import LoadedModel, load
from runner.emulator.engine.protocol import ModelSource
from runner.emulator.engine.serving.dense import DenseDecoder
from runner.emulator.engine.serving.dense_batch import DenseBatch
from runner.emulator.engine.serving.engine import Engine
from runner.emulator.engine.serving.sequence import Prompt
from tests.emulator.engine.test_serving_engine import Collector, random_prompts, tokens_of

pytestmark = pytest.mark.training


@pytest.fixture(scope="module", params=["llama3", "qwen3"])
def loaded(request: pytest.FixtureRequest, model_cache: Path) -> LoadedModel:
    return load(ModelSource(kind="tiny", family=request.param), cache_directory=str(model_cache), threads=1)


@pytest.fixture
def engine(loaded: LoadedModel) -> Iterator[Engine]:
    engine = Engine(loaded.model, loaded.tokenizer, max_length=2048)
    engine.start()
    yield engine
    engine.close()


def alone(loaded: LoadedModel, prompt: Prompt, tokens: int) -> list[int]:
    """Return what transformers generates."""
    made = loaded.model.generate(
        torch.tensor([prompt.ids]), max_new_tokens=tokens, do_sample=False, eos_token_id=None, use_cache=True
    )
    ids: list[int] = made[0, len(prompt.ids) :].tolist()
    return ids


def test_which_models_have_it(model_cache: Path) -> None:
    supported = {
        family: DenseDecoder.supports(
            load(ModelSource(kind="tiny", family=family), cache_directory=str(model_cache), threads=1).model
        )
        for family in ("llama3", "qwen3", "gemma3", "llama4")
    }
    assert supported == {"llama3": True, "qwen3": True, "gemma3": False, "llama4": False}


def test_a_prompt_whose_beginning_is_known_is_answered_alike(engine: Engine, loaded: LoadedModel) -> None:
    shared, *ends = random_prompts(loaded, [60, 5, 9, 300])
    prompts = [Prompt([*shared.ids, *end.ids]) for end in ends]
    collector = Collector(engine)
    for prompt in [*prompts, prompts[0]]:
        got = tokens_of(collector.run(prompt, max_tokens=12, temperature=0, ignore_eos=True))
        assert got == alone(loaded, prompt, 12)
    assert engine.metrics.reused_tokens >= 3 * 60


def test_a_long_prompt_in_pieces_is_answered_alike_and_holds_up_nobody(engine: Engine, loaded: LoadedModel) -> None:
    long, short = random_prompts(loaded, [1500, 20])
    collector = Collector(engine)
    first, second = (collector.start(one, max_tokens=8, temperature=0, ignore_eos=True) for one in (long, short))
    assert tokens_of(collector.collect(second)) == alone(loaded, short, 8)
    assert tokens_of(collector.collect(first)) == alone(loaded, long, 8)
    assert engine.metrics.steps > 7  # the short one's tokens did not wait for the long prompt


def test_equal_prompts_of_one_pass_are_computed_once(loaded: LoadedModel) -> None:
    one, other = (prompt.ids for prompt in random_prompts(loaded, [30, 40]))
    batch = DenseBatch(DenseDecoder(loaded.model), prefix_positions=0)
    with torch.inference_mode():
        logits = batch.join([one, other, one])
        apart = DenseBatch(DenseDecoder(loaded.model), prefix_positions=0).join([other])
    assert batch.rows == 3
    assert torch.equal(logits[0], logits[2])
    torch.testing.assert_close(logits[1], apart[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_rows_that_come_go_and_grow_do_not_change_each_other(loaded: LoadedModel, seed: int) -> None:
    draw = random.Random(seed)
    decoder = DenseDecoder(loaded.model)
    batch = DenseBatch(decoder, prefix_positions=0)
    rows: list[list[int]] = []
    with torch.inference_mode():
        for _ in range(12):
            # Around 128 and 256 positions, where a row moves to longer ones.
            lengths = [draw.choice([5, 120, 126, 127, 128, 129, 250, 255]) for _ in range(draw.randint(0, 3))]
            if lengths:
                prompts = [prompt.ids for prompt in random_prompts(loaded, lengths)]
                batch.join(prompts)
                rows += prompts
            for _ in range(draw.randint(1, 4) if rows else 0):
                tokens = [draw.randrange(200) for _ in rows]
                logits = batch.step(tokens)
                rows = [[*row, token] for row, token in zip(rows, tokens, strict=True)]
            assert batch.width == max(map(len, rows), default=0)
            if rows:
                place = draw.randrange(len(rows))
                alone = DenseBatch(decoder, prefix_positions=0).join([rows[place]])
                torch.testing.assert_close(logits[place], alone[0], rtol=1e-3, atol=1e-3)
            kept = [row for row in range(len(rows)) if draw.random() < 0.7]
            batch.keep(kept)
            rows = [rows[row] for row in kept]
            assert batch.rows == len(rows)


@pytest.mark.parametrize("rows", [1, 8, 100])
def test_bfloat16_is_as_near_to_float32_as_that_of_transformers(model_cache: Path, rows: int) -> None:
    def load_as(dtype: torch.dtype) -> Any:
        source = ModelSource(kind="tiny", family="llama3")
        return load(source, cache_directory=str(model_cache), threads=1, dtype=dtype)

    exact, narrow, own = load_as(torch.float32), load_as(torch.bfloat16), load_as(torch.bfloat16)
    exact.model.load_state_dict({name: one.float() for name, one in narrow.model.state_dict().items()})
    prompts = [prompt.ids for prompt in random_prompts(exact, [12] * rows)]
    with torch.inference_mode():
        ids = torch.tensor(prompts)
        wanted = exact.model(ids).logits[:, -1]
        theirs = narrow.model(ids).logits[:, -1].float()
        batch = DenseBatch(DenseDecoder(own.model))
        ours = batch.join(prompts)
        step = batch.step(ours.argmax(-1).tolist())
        longer = torch.cat([ids, ours.argmax(-1, keepdim=True)], 1)
        wanted_step = exact.model(longer).logits[:, -1]
    assert (ours - wanted).norm() <= (theirs - wanted).norm() * 1.2
    assert (step - wanted_step).norm() / wanted_step.norm() < 0.02
