"""Sampling against distributions worked out by hand."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
import torch

from runner.emulator.engine.serving.parameters import SamplingParameters
from runner.emulator.engine.serving.sampling import Sampler

pytestmark = pytest.mark.training

LOGITS = torch.tensor([0.5, 0.2, 0.15, 0.1, 0.05]).log()
END = frozenset({0})


def draw(count: int = 4000, logits: torch.Tensor = LOGITS, **parameters: Any) -> dict[int, float]:
    """Return how often each token is drawn, from fresh samplers of different seeds."""
    drawn: Counter[int] = Counter()
    for seed in range(count):
        drawn[Sampler(SamplingParameters(seed=seed, **parameters), [], END).choose(logits, 0).token] += 1
    return {token: number / count for token, number in sorted(drawn.items())}


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, {0: 0.5, 1: 0.2, 2: 0.15, 3: 0.1, 4: 0.05}),
        ({"top_k": 2}, {0: 5 / 7, 1: 2 / 7}),
        ({"top_p": 0.6}, {0: 5 / 7, 1: 2 / 7}),
        ({"top_p": 0.5}, {0: 1.0}),
        ({"top_k": 3, "top_p": 0.8}, {0: 5 / 7, 1: 2 / 7}),  # 0.7 / 0.85 of what top_k leaves is enough
        ({"min_p": 0.25}, {0: 50 / 85, 1: 20 / 85, 2: 15 / 85}),
        (
            {"temperature": 0.5},
            {0: 0.25 / 0.325, 1: 0.04 / 0.325, 2: 0.0225 / 0.325, 3: 0.01 / 0.325, 4: 0.0025 / 0.325},
        ),
        ({"temperature": 0.0}, {0: 1.0}),
        ({"min_tokens": 1}, {1: 0.4, 2: 0.3, 3: 0.2, 4: 0.1}),
        ({"logit_bias": {4: 100.0}}, {4: 1.0}),
    ],
)
def test_frequencies_follow_the_distribution(parameters: dict[str, Any], expected: dict[int, float]) -> None:
    found = draw(**parameters)
    assert found.keys() == expected.keys()
    for token, share in expected.items():
        # Four standard deviations of 4000 draws.
        assert found[token] == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 4000) + 1e-9)


@pytest.mark.parametrize("spread", [0.0, 0.5, 3.0, 20.0])
def test_the_nucleus_is_that_of_all_tokens_sorted(spread: float) -> None:
    logits = torch.randn(3000, generator=torch.Generator().manual_seed(1)) * spread
    order = logits.sort(descending=True, stable=True).indices.tolist()
    probabilities = logits.double().softmax(0)[order]
    size = int((probabilities.cumsum(0) - probabilities < 0.9).sum())
    sampler = Sampler(SamplingParameters(seed=1, top_p=0.9), [], END)
    drawn = Counter(sampler.choose(logits, 0).token for _ in range(3000))
    assert set(drawn) <= set(order[: size + 1])  # one more: float32 may round it in
    expected = sum(1 - (1 - float(one) / float(probabilities[:size].sum())) ** 3000 for one in probabilities[:size])
    assert len(drawn) == pytest.approx(expected, abs=4 * math.sqrt(size) / 2 + 1)


def test_penalties_lower_what_was_generated() -> None:
    sampler = Sampler(SamplingParameters(temperature=0.0, presence_penalty=1.0, frequency_penalty=0.5), [], END)
    logits = torch.tensor([3.0, 2.0, 1.0])
    # 3 -> 1.5 after one use, 1.0 after two; 2 -> 0.5 after one.
    assert [sampler.choose(logits, number).token for number in range(4)] == [0, 1, 0, 0]
    assert torch.equal(logits, torch.tensor([3.0, 2.0, 1.0]))


def test_repetition_penalty_counts_the_prompt() -> None:
    parameters = SamplingParameters(temperature=0.0, repetition_penalty=2.0)
    logits = torch.tensor([3.0, 2.0, -1.0])
    assert Sampler(parameters, [0], END).choose(logits, 0).token == 1
    assert Sampler(parameters, [], END).choose(logits, 0).token == 0


def test_log_probabilities_are_those_before_temperature_and_penalties() -> None:
    parameters = SamplingParameters(seed=1, temperature=0.3, logit_bias={4: 100.0}, logprobs=2)
    choice = Sampler(parameters, [], END).choose(LOGITS, 0)
    assert choice.token == 4
    assert choice.logprob == pytest.approx(math.log(0.05), abs=1e-5)
    assert [token for token, _ in choice.top] == [0, 1]
    assert [math.exp(value) for _, value in choice.top] == pytest.approx([0.5, 0.2], abs=1e-5)


def test_the_sequences_of_one_request_differ() -> None:
    logits = torch.zeros(1000)
    parameters = SamplingParameters(seed=5, n=2)
    first, second = (
        [sampler.choose(logits, 0).token for _ in range(5)]
        for sampler in (Sampler(parameters, [], END, index) for index in range(2))
    )
    assert first != second
