"""What training makes of a dataset: tokens, labels, drops, statistics, batches."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from runner.emulator.engine.batches import MAX_TOKENS, collate, epoch_order, split
from runner.emulator.engine.checkpoints import ModelError
from runner.emulator.engine.data_statistics import dataset_statistics, distribution
from runner.emulator.engine.dataset import IGNORED, TokenizedExample, Tokenizer, read_dataset
from runner.emulator.engine.model_cache import build_once
from tests.emulator.engine.training_processes import chat, write_lines

pytestmark = pytest.mark.training

FAMILIES = ("llama3", "llama4", "gemma3", "qwen3")


def tokenizer_of(family: str, cache: Path, max_length: int = 512) -> Tokenizer:
    from transformers import AutoTokenizer

    from runner.emulator.engine.tiny import prepare_tiny

    tokenizer = AutoTokenizer.from_pretrained(prepare_tiny(family, cache), local_files_only=True)
    return Tokenizer(tokenizer, None, max_length=max_length, files={})


@pytest.mark.parametrize("family", FAMILIES)
def test_exactly_the_answers_are_learned_and_prompts_are_what_requests_will_send(
    family: str, model_cache: Path, tmp_path: Path
) -> None:
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Où est l'été ? 🎉"},
        {"role": "assistant", "content": "Ici."},
        {"role": "user", "content": "And now?"},
        {"role": "assistant", "content": "There, too."},
    ]
    tokenizer = tokenizer_of(family, model_cache)
    file = write_lines(tmp_path / "train.jsonl", [{"messages": turns}])
    (example,) = read_dataset(Path(file), tokenizer, images=False).examples
    decode = tokenizer.tokenizer.decode
    end = tokenizer.tokenizer.eos_token
    learned = decode([label for label in example.labels if label != IGNORED])
    after = "\n" if family in ("gemma3", "qwen3") else ""
    assert learned == f"Ici.{end}{after}There, too.{end}{after}"
    assert decode(example.tokens) == tokenizer.tokenizer.apply_chat_template(turns, tokenize=False)
    for history in (2, 4):
        prompt = tokenizer.tokenizer.apply_chat_template(
            turns[:history], add_generation_prompt=True, tokenize=True, return_dict=True
        )["input_ids"]
        assert example.tokens[: len(prompt)] == prompt
        assert example.labels[len(prompt) - 1] == IGNORED != example.labels[len(prompt)]


def test_a_template_that_rewrites_history_is_refused(model_cache: Path, tmp_path: Path) -> None:
    tokenizer = tokenizer_of("llama3", model_cache)
    tokenizer.tokenizer.chat_template = (
        "{% for message in messages %}{% if message.role == 'user' or loop.last %}{{ message.content }}{% endif %}"
        "{% endfor %}"
    )
    tokenizer = Tokenizer(tokenizer.tokenizer, None, max_length=tokenizer.max_length, files={})
    file = write_lines(
        tmp_path / "train.jsonl", [{"messages": chat("a", "b")["messages"] + chat("c", "d")["messages"]}]
    )
    with pytest.raises(ModelError, match="changes earlier turns"):
        read_dataset(Path(file), tokenizer, images=False)


def test_what_cannot_be_trained_on_is_dropped_counted_and_explained(model_cache: Path, tmp_path: Path) -> None:
    rows: list[Any] = [
        chat("one", "1"),
        "{broken",
        "",
        chat("a very long question " * 40, "2"),
        {"messages": [{"role": "user", "content": "no answer"}]},
        {"prompt": "two", "completion": "2"},
    ]
    tokenizer = tokenizer_of("llama3", model_cache, max_length=64)
    dataset = read_dataset(Path(write_lines(tmp_path / "train.jsonl", rows)), tokenizer, images=False)
    assert [example.line for example in dataset.examples] == [1, 6]
    statistics = dataset_statistics(dataset, steps=7)
    assert statistics["tuningDatasetExampleCount"] == "5"
    assert statistics["totalTruncatedExampleCount"] == "3"
    # Positions among the examples: a blank line is none.
    assert statistics["truncatedExampleIndices"] == ["2", "3", "4"]
    reasons = statistics["droppedExampleReasons"]
    assert "json" in reasons[0]
    assert "tokens; the limit is 64" in reasons[1]
    assert "assistant" in reasons[2]
    assert statistics["tuningStepCount"] == "7"
    assert statistics["totalBillableTokenCount"] == str(sum(len(example.tokens) for example in dataset.examples))
    assert statistics["userMessagePerExampleDistribution"]["mean"] == 1
    assert statistics["userDatasetExamples"][0] == {"role": "user", "parts": [{"text": "one"}]}
    assert json.loads(json.dumps(statistics)) == statistics


def test_a_distribution_describes_its_values() -> None:
    shape = distribution(list(range(101)))
    assert (shape["sum"], shape["min"], shape["max"], shape["mean"], shape["median"]) == ("5050", 0, 100, 50, 50)
    assert (shape["p5"], shape["p95"]) == (5, 95)
    assert [bucket["count"] for bucket in shape["buckets"]] == [10] * 9 + [11]
    assert shape["buckets"][0]["left"] == 0
    assert shape["buckets"][-1]["right"] == 100
    assert distribution([3, 3])["buckets"] == [{"count": 2, "left": 3, "right": 4}]
    assert distribution([]) == {}


def test_an_epoch_has_every_example_once_in_an_order_of_its_own() -> None:
    lengths = [(index * 37) % 90 + 5 for index in range(203)]
    first = epoch_order(lengths, 8, seed=1, epoch=0)
    assert sorted(index for batch in first for index in batch) == list(range(203))
    assert len(first) == 26
    assert first == epoch_order(lengths, 8, seed=1, epoch=0)
    assert first != epoch_order(lengths, 8, seed=1, epoch=1) != epoch_order(lengths, 8, seed=2, epoch=0)
    padded = sum(max(lengths[index] for index in batch) * len(batch) for batch in first)
    assert padded < 1.25 * sum(lengths)


def example_of(length: int) -> TokenizedExample:
    return TokenizedExample(1, list(range(length)), [IGNORED, *range(1, length)])


def test_large_batches_are_split_to_bounded_parts() -> None:
    examples = [example_of(length) for length in (9000, 3000, 3000, 3000, 10)]
    parts = split(examples)
    assert sorted(len(item.tokens) for part in parts for item in part) == [10, 3000, 3000, 3000, 9000]
    assert all(len(part) == 1 or len(part) * max(len(item.tokens) for item in part) <= MAX_TOKENS for part in parts)


def test_labels_are_the_next_tokens() -> None:
    import torch

    batch = collate([example_of(5), example_of(3)], 99, "cpu", torch.float32)
    assert batch.inputs["input_ids"].tolist() == [[0, 1, 2, 3, 4], [0, 1, 2, 99, 99]]
    assert batch.inputs["attention_mask"].tolist() == [[1] * 5, [1, 1, 1, 0, 0]]
    assert batch.labels.tolist() == [1, 2, 3, 4, 1, 2]
    assert [one.tolist() for one in batch.learned] == [[0, 0, 0, 0, 1, 1], [0, 1, 2, 3, 0, 1]]


@pytest.mark.parametrize("family", FAMILIES)
def test_tiny_models_are_the_same_wherever_they_are_built(family: str, model_cache: Path, tmp_path: Path) -> None:
    from runner.emulator.engine.tiny import prepare_tiny

    one = prepare_tiny(family, model_cache)
    again = prepare_tiny(family, tmp_path)
    assert {file.name for file in one.iterdir()} == {file.name for file in again.iterdir()}
    for file in one.iterdir():
        assert file.read_bytes() == (again / file.name).read_bytes(), file.name
    assert sum(file.stat().st_size for file in one.iterdir()) < 5_000_000


def test_a_cached_folder_is_built_once_and_never_seen_half_built(tmp_path: Path) -> None:
    built = []

    def build(folder: Path) -> None:
        built.append(folder)
        (folder / "first").touch()
        time.sleep(0.2)
        (folder / "last").touch()

    def use() -> None:
        assert (build_once(tmp_path, "model", build) / "last").exists()
        used.append(1)

    used: list[int] = []
    threads = [threading.Thread(target=use) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(used) == 5
    assert len(built) == 1


def test_a_failed_build_leaves_nothing_and_is_tried_again(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        build_once(tmp_path, "model", fail)
    assert not (tmp_path / "model").exists()
    assert build_once(tmp_path, "model", lambda folder: (folder / "whole").touch()).is_dir()
    assert [file.name for file in (tmp_path / "model").iterdir()] == ["whole"]


@pytest.mark.parametrize("family", FAMILIES)
def test_pairs_are_also_learned_as_serving_encodes_a_bare_prompt(
    family: str, model_cache: Path, tmp_path: Path
) -> None:
    from runner.emulator.engine.serving.prompts import PromptEncoder

    tokenizer = tokenizer_of(family, model_cache)
    pair = {"prompt": "Où est l'été ?", "completion": "Ici."}
    conversation = chat(pair["prompt"], pair["completion"])
    (example,) = read_dataset(Path(write_lines(tmp_path / "a.jsonl", [pair])), tokenizer, images=False).examples
    (other,) = read_dataset(Path(write_lines(tmp_path / "b.jsonl", [conversation])), tokenizer, images=False).examples
    assert (example.tokens, example.labels) == (other.tokens, other.labels)
    assert other.rows == [other]
    asked = PromptEncoder(tokenizer.tokenizer, None).encode_text(pair["prompt"]).ids
    (_, bare) = example.rows
    assert bare.tokens[: len(asked)] == asked
    assert bare.labels[: len(asked)] == [IGNORED] * len(asked)
    assert tokenizer.tokenizer.decode(bare.tokens[len(asked) :]) == f"Ici.{tokenizer.tokenizer.eos_token}"
    assert bare.labels[len(asked) :] == bare.tokens[len(asked) :]
