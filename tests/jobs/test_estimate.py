"""The price of a job: worked out by hand, and refused where none is published."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from runner.catalog import load_catalog
from runner.environment import Environment
from runner.errors import ConfigurationError
from runner.jobs.estimate import DatasetStatistics, estimate
from runner.jobs.specification import TuningJobSpec, check

LLAMA = "meta/llama3_1@llama-3.1-8b"
ENVIRONMENT = Environment(project="p", outputs_bucket="outputs", location="us-central1")


def spec(model: str = LLAMA, **changes: Any) -> TuningJobSpec:
    given = TuningJobSpec(base_model=model, training_dataset="gs://bucket/train.jsonl")
    return dataclasses.replace(given, **changes)


def test_counted_tokens() -> None:
    # 1,000,000 tokens, 3 epochs, USD 0.67 a million
    found = estimate(spec(epochs=3), DatasetStatistics(tokens=1_000_000, counted=True))
    assert found.low == found.expected == found.high == pytest.approx(2.01)
    assert found.to_json()["billedTokens"] == 3_000_000


def test_ratio_of_the_mode() -> None:
    # Published: 0.317 tokens a character for LoRA, 0.247 for full tuning; the range is 0.231 to 0.317.
    lora = estimate(spec(mode="PEFT_ADAPTER", epochs=1), DatasetStatistics(tokens=317_000))
    full = estimate(spec(mode="FULL", epochs=1), DatasetStatistics(tokens=247_000))
    assert (lora.low, lora.expected, lora.high) == pytest.approx((0.67 * 0.231, 0.67 * 0.317, 0.67 * 0.317))
    assert (full.low, full.expected, full.high) == pytest.approx((0.67 * 0.231, 0.67 * 0.247, 0.67 * 0.317))


@pytest.mark.parametrize("model", [model.id for model in load_catalog().models])
def test_every_model_has_an_ordered_price_or_says_why_not(model: str) -> None:
    found = estimate(spec(model), DatasetStatistics(tokens=10_000))
    assert found.reasons
    if found.known:
        assert found.low is not None
        assert found.expected is not None
        assert found.high is not None
        assert 0 < found.low <= found.expected <= found.high
    else:
        assert found.low is None
        assert found.high is None
        assert any("no price is published" in reason for reason in found.reasons)


def test_a_model_without_a_published_price_exists() -> None:
    assert not estimate(spec("qwen/qwen3-6@qwen3.6-27b"), DatasetStatistics(tokens=100)).known


def test_images_are_outside_the_range_of_ratios() -> None:
    found = estimate(spec("meta/llama4@llama-4-scout-17b-16e-instruct"), DatasetStatistics(tokens=3 * 170, images=3))
    assert found.low == found.expected == found.high
    assert any("3 images" in reason for reason in found.reasons)


def test_defaults_come_from_the_catalogue() -> None:
    found = spec("google/gemma3@gemma-3-27b-it").resolved()
    assert (found.base_model, found.mode, found.epochs) == ("google/gemma-3-27b-it", "PEFT_ADAPTER", 3)
    assert (found.learning_rate, found.adapter_size) == (0.0002, 32)
    full = spec("meta/llama3-2@llama-3.2-1b-instruct").resolved()
    assert (full.mode, full.adapter_size, full.learning_rate) == ("FULL", None, 0.0000015)


def test_a_sound_specification() -> None:
    assert spec(labels={"team": "search"}, learning_rate=1e-4, adapter_size=8).validate(ENVIRONMENT) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"base_model": "meta/llama-9"}, "base model"),
        ({"base_model": "meta/llama3-2@llama-3.2-1b-instruct", "mode": "PEFT_ADAPTER"}, "only FULL"),
        ({"mode": "LORA"}, "neither FULL nor PEFT_ADAPTER"),
        ({"mode": "FULL", "adapter_size": 8}, "only mode PEFT_ADAPTER"),
        ({"adapter_size": 2}, "not one of 1, 4, 8, 16, 32"),
        ({"epochs": 0}, "epochs"),
        ({"batch_size": -1}, "batch size"),
        ({"learning_rate": float("nan")}, "learning rate"),
        ({"learning_rate": 2.0}, "learning rate"),
        ({"training_dataset": "/tmp/train.jsonl"}, "training dataset"),
        ({"training_dataset": "gs://bucket/folder/"}, "names no object"),
        ({"validation_dataset": "gs://bucket/train.jsonl"}, "is the training dataset"),
        ({"output_uri": "s3://bucket/x"}, "output"),
        ({"custom_base_model": "gs://B/x"}, "custom base model"),
        ({"display_name": "x" * 129}, "display name"),
        ({"labels": {"Team": "x"}}, "label 'Team'"),
        ({"labels": {"team": "X"}}, "value 'X'"),
        ({"labels": {"runner-fingerprint": "x"}}, "kept for this tool"),
        ({"service_account": "me"}, "service account"),
        ({"kms_key": "key"}, "KMS key"),
        ({"kms_key": "projects/p/locations/europe-west4/keyRings/r/cryptoKeys/k"}, "europe-west4"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_each_mistake_is_named(changes: dict[str, Any], said: str) -> None:
    problems = spec(**changes).validate(ENVIRONMENT)
    assert len(problems) == 1
    assert said in str(problems[0])


def test_all_mistakes_at_once() -> None:
    wrong = spec(epochs=0, adapter_size=3, output_uri="x", labels={"A": "b"})
    with pytest.raises(ConfigurationError) as caught:
        check(wrong, Environment(location="mars"))
    assert len(caught.value.problems) == 6
