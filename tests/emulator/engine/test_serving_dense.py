"""The own forward pass of dense models: the same numbers as transformers' pass, prompts known and in pieces."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from runner.datasets.reading import native
from runner.emulator.engine.loading import LoadedModel, load
from runner.emulator.engine.processors import has_matrix_unit, multiplies_faster_in_bfloat16
from runner.emulator.engine.protocol import ModelSource
from runner.emulator.engine.serving.compiled import CompiledDecoder
from runner.emulator.engine.serving.dense import DenseDecoder, entries_place
from runner.emulator.engine.serving.dense_batch import DenseBatch
from runner.emulator.engine.serving.engine import Engine
from runner.emulator.engine.serving.scores import PromptScorer
from runner.emulator.engine.serving.sequence import Prompt
from tests.emulator.engine.test_serving_engine import Collector, random_prompts, tokens_of

pytestmark = pytest.mark.training

_COMPILED = getattr(native.module(), "Decoder", None)
needs_compiled = pytest.mark.skipif(
    _COMPILED is None or not _COMPILED.supports(16, 16, 16),
    reason="needs the compiled package" if _COMPILED is None else "needs AVX-512",
)
DECODERS = [
    DenseDecoder,
    pytest.param(functools.partial(CompiledDecoder, threads=2), marks=needs_compiled, id="compiled"),
    pytest.param(functools.partial(CompiledDecoder, threads=2, narrow=False), marks=needs_compiled, id="compiled-wide"),
]


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
@pytest.mark.parametrize("kind", ["plain", pytest.param("compiled", marks=needs_compiled)])
def test_rows_that_come_go_and_grow_do_not_change_each_other(
    loaded: LoadedModel, model_cache: Path, seed: int, kind: str
) -> None:
    draw = random.Random(seed)
    if kind == "compiled":
        source = ModelSource(kind="tiny", family="llama3")
        narrow = load(source, cache_directory=str(model_cache), threads=1, dtype=torch.bfloat16)
        decoder: DenseDecoder = CompiledDecoder(narrow.model, threads=2)
    else:
        decoder = DenseDecoder(loaded.model)
    near = 1e-3 if kind == "plain" else 0.05  # keys and values are kept in the weights' type
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
                torch.testing.assert_close(logits[place], alone[0], rtol=near, atol=near)
            kept = [row for row in range(len(rows)) if draw.random() < 0.7]
            batch.keep(kept)
            rows = [rows[row] for row in kept]
            assert batch.rows == len(rows)


@pytest.mark.parametrize("family", ["llama3", "qwen3"])
@pytest.mark.parametrize("rows", [1, 8, 100])
@pytest.mark.parametrize("make", DECODERS)
def test_bfloat16_is_as_near_to_float32_as_that_of_transformers(
    model_cache: Path, make: Callable[[Any], DenseDecoder], rows: int, family: Literal["llama3", "qwen3"]
) -> None:
    def load_as(dtype: torch.dtype) -> Any:
        source = ModelSource(kind="tiny", family=family)
        return load(source, cache_directory=str(model_cache), threads=1, dtype=dtype)

    exact, narrow, own = load_as(torch.float32), load_as(torch.bfloat16), load_as(torch.bfloat16)
    exact.model.load_state_dict({name: one.float() for name, one in narrow.model.state_dict().items()})
    lengths = [12 + row % 5 for row in range(rows - 1)] + [150]
    prompts = [prompt.ids for prompt in random_prompts(exact, lengths)]
    ends = [[*one, number % 200] for number, one in enumerate(prompts)]

    def last(model: Any, texts: list[list[int]]) -> torch.Tensor:
        return torch.stack([model(torch.tensor([one])).logits[0, -1].float() for one in texts])

    with torch.inference_mode():
        batch = DenseBatch(make(own.model), prefix_positions=0)
        ours = batch.join(prompts)
        step = batch.step([one[-1] for one in ends])
        for got, texts in ((ours, prompts), (step, ends)):
            wanted, theirs = last(exact.model, texts), last(narrow.model, texts)
            assert (got - wanted).norm() <= (theirs - wanted).norm() * 1.2


@needs_compiled
def test_the_compiled_pass_knows_beginnings_and_scores_as_the_other_does(model_cache: Path) -> None:
    batches = []
    for make in (DenseDecoder, functools.partial(CompiledDecoder, threads=2)):
        source = ModelSource(kind="tiny", family="llama3")
        loaded = load(source, cache_directory=str(model_cache), threads=1, dtype=torch.bfloat16)
        batches.append((DenseBatch(make(loaded.model)), PromptScorer(loaded.model)))
    first, more, other = (prompt.ids for prompt in random_prompts(loaded, [90, 40, 20]))
    for prompts in ([first], [[*first, *more], other, other]):
        with torch.inference_mode():
            plain, own = (batch.join(prompts) for batch, _ in batches)
        assert (own - plain).norm() <= 0.02 * plain.norm()
    assert [batch.reused for batch, _ in batches] == [90, 90]
    with torch.inference_mode():
        for batch, scorer in batches:
            batch.join([first], scorer=scorer)
        plain_scores, compiled_scores = (
            torch.tensor([one.own[1] for one in scorer.score(0, first, 0)]) for _, scorer in batches
        )
    torch.testing.assert_close(compiled_scores, plain_scores, rtol=0.05, atol=0.05)


@needs_compiled
@pytest.mark.parametrize("name", ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"])
def test_weights_that_are_no_numbers_show(model_cache: Path, name: str) -> None:
    """Otherwise a model that has diverged would answer as if nothing were wrong."""
    source = ModelSource(kind="tiny", family="llama3")
    loaded = load(source, cache_directory=str(model_cache), threads=1, dtype=torch.bfloat16)
    layer = loaded.model.model.layers[1]
    with torch.inference_mode():
        getattr(layer.self_attn if name in "q_proj k_proj v_proj o_proj" else layer.mlp, name).weight.fill_(torch.nan)
        batch = DenseBatch(CompiledDecoder(loaded.model, threads=2), prefix_positions=0)
        logits = batch.join([prompt.ids for prompt in random_prompts(loaded, [1, 5, 40])])
    assert logits.isnan().all()


@needs_compiled
def test_a_package_of_another_version_is_left_alone(model_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = ModelSource(kind="tiny", family="llama3")
    model = load(source, cache_directory=str(model_cache), threads=1, dtype=torch.bfloat16).model
    assert CompiledDecoder.supports(model) != has_matrix_unit()
    monkeypatch.setattr(native, "PROTOCOL", native.PROTOCOL + 1)
    native.module.cache_clear()
    try:
        assert not CompiledDecoder.supports(model)
    finally:
        native.module.cache_clear()


def test_a_model_with_a_layer_of_another_type_is_not_compiled(model_cache: Path) -> None:
    source = ModelSource(kind="tiny", family="llama3")
    model = load(source, cache_directory=str(model_cache), threads=1, dtype=torch.bfloat16).model
    model.model.layers[1].mlp.up_proj.float()
    assert not CompiledDecoder.supports(model)


_SHAPES = [(32, 32), (16, 32), (16, 32), (32, 32), (48, 32), (48, 32), (32, 48)]
"""Outputs and inputs of a layer's weights: 2 heads of 16 values share one of keys."""


def _decoder(**changes: Any) -> tuple[Any, list[torch.Tensor]]:
    """Return a compiled decoder of one layer and its weights."""
    kept: list[torch.Tensor] = []

    def matrix(shape: tuple[int, int]) -> tuple[int, int, int]:
        kept.append(torch.randn(shape).bfloat16())
        return (kept[-1].data_ptr(), *shape)

    given = {
        "heads": 2,
        "key_heads": 1,
        "size": 16,
        "epsilon": 1e-6,
        "layers": [_SHAPES],
        "norms": [[[1.0] * 32, [1.0] * 32, []]],
        "norm": [1.0] * 32,
        "head": (70, 32),
        "narrow": multiplies_faster_in_bfloat16(),
        **changes,
    }
    given["layers"] = [[matrix(one) for one in layer] for layer in given["layers"]]
    given["head"] = matrix(given["head"])
    assert _COMPILED is not None
    return _COMPILED(**given), kept


@needs_compiled
@pytest.mark.parametrize(
    "changes",
    [
        {"layers": []},
        {"layers": [_SHAPES, _SHAPES]},
        *({"layers": [[*_SHAPES[:place], (64, 64), *_SHAPES[place + 1 :]]]} for place in range(7)),
        {"heads": 3},
        {"key_heads": 0},
        {"key_heads": 2},
        {"norms": [[[1.0] * 16, [1.0] * 32, []]]},
        {"norms": [[[1.0] * 32, [1.0] * 32, [1.0] * 16]]},
        {"norm": []},
        {"head": (70, 48)},
    ],
)
def test_the_compiled_decoder_refuses_weights_that_do_not_fit(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"not supported|do not fit"):
        _decoder(**changes)


@needs_compiled
@pytest.mark.parametrize(
    "changes", [{"positions": [0, 1]}, {"counts": [2, 2]}, {"wanted": [3]}, {"wanted": [2, 0]}, {"threads": 0}]
)
def test_the_compiled_decoder_refuses_numbers_of_tokens_that_do_not_agree(changes: dict[str, Any]) -> None:
    decoder, _weights = _decoder()
    states, angles = torch.randn(3, 32), torch.ones(2, 8, 16)
    rows = [torch.zeros((1, 2, 1, 8, 16), dtype=torch.bfloat16) for _ in range(2)]

    def forward(
        *,
        positions: tuple[int, ...] = (0, 1, 0),
        counts: tuple[int, ...] = (2, 1),
        wanted: Any = (0, 2),
        threads: int = 2,
    ) -> None:
        places = [entries_place(row, count) for row, count in zip(rows, counts, strict=True)]
        pointers = (states.data_ptr(), angles[0].data_ptr(), angles[1].data_ptr())
        decoder.forward(*pointers, list(positions), places, list(wanted), threads)

    forward()
    assert states.isfinite().all()
    before = states.clone()
    with pytest.raises(ValueError, match="positions"):
        forward(**changes)
    assert states.equal(before)
