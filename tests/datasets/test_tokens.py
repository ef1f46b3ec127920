"""Exact token counts: the same as training, the same with the fast tokenizer, no template run for each example."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from runner.catalog import find_model
from runner.datasets.checks import check_files
from runner.datasets.summarise import Settings, summarise
from runner.datasets.templates import ChatTemplate, Segment
from runner.datasets.tokenizer_cache import find_tokenizer
from runner.datasets.tokens import TokenizerCounter
from runner.emulator.engine import chat_templates
from runner.emulator.engine.dataset import Tokenizer, read_dataset
from runner.emulator.engine.tiny import prepare_tiny
from runner.errors import ConfigurationError
from tests.cli.invocation import process

FAMILIES = ("llama3", "llama4", "gemma3", "qwen3")
TEXTS = (
    "What is a car?",
    "  leading and trailing \n",
    "<|im_end|> and <|eot_id|> and <end_of_turn>",
    "Où est l'été ? 🎉 你好",
    "\n\ndef f(x):\n\treturn x ** 2",
    "It's 12,345.67 - don't!",
    "a" * 700,
    "word " * 300,
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def rows(seed: int, count: int = 60) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    made = []
    for _ in range(count):
        turns = [{"role": "system", "content": draw.choice(TEXTS)}] if draw.random() < 0.4 else []
        for _ in range(draw.choice((1, 1, 2, 3))):
            turns.append({"role": "user", "content": draw.choice(TEXTS)})
            turns.append({"role": "assistant", "content": draw.choice(TEXTS)})
        made.append({"messages": turns})
    made.append({"messages": [{"role": "user", "content": "no answer"}]})
    made.append({"messages": [{"role": "user", "content": ""}, {"role": "assistant", "content": "b"}]})
    return made


@pytest.mark.training
@pytest.mark.parametrize("family", FAMILIES)
def test_the_check_says_what_training_does(family: str, cache: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    folder = prepare_tiny(family, cache)
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows(7)))
    limit = 400
    tokenizer = Tokenizer(
        AutoTokenizer.from_pretrained(folder, local_files_only=True), None, max_length=limit, files={}
    )
    trained = read_dataset(path, tokenizer, images=False)

    size = path.stat().st_size
    summary = summarise(path, 0, size, Settings(ratio=0.25, tokenizer=folder, limit=limit, images=False))
    tally = summary.text_only
    assert sorted(tally.tokens.elements()) == sorted(len(example.tokens) for example in trained.examples)
    assert tally.trained == sum(example.learned for example in trained.examples) > 0
    refused = {finding.line for finding in summary.findings if finding.severity == "error"}
    too_long = dict(tally.longest)
    assert refused | set(too_long) == {line for line, _ in trained.dropped}
    assert len(too_long) > 5
    reasons = dict(trained.dropped)
    assert all(str(tokens) in reasons[line] for line, tokens in too_long.items())
    assert tally.characters == trained.characters


@pytest.mark.training
def test_the_fast_tokenizer_counts_and_the_template_is_seldom_run(cache: Path, tmp_path: Path) -> None:
    counter = TokenizerCounter(prepare_tiny("llama3", cache))
    for index in range(500):
        counter.measure([f"question {index}", "an answer"], False, 0, 0)
    assert counter.library == "fastokens"
    assert counter.template.rendered < 15
    path = tmp_path / "t.jsonl"
    path.write_text('{"prompt": "What is a car?", "completion": "A vehicle."}\n')
    model = find_model("meta/llama3_1@llama-3.1-8b-instruct")
    report = check_files(path, model=model, tokenizer=prepare_tiny("llama3", cache))
    assert report.tokens_exact
    assert (report.training.tokens.total, report.training.trained_tokens) == counter.measure(
        ["What is a car?", "A vehicle."], False, 0, 0
    )


def template(tmp_path: Path, source: str) -> ChatTemplate:
    (tmp_path / "chat_template.jinja").write_text(source)
    (tmp_path / "tokenizer_config.json").write_text('{"bos_token": {"content": "<s>"}}')
    return ChatTemplate(tmp_path)


def test_a_template_that_looks_into_contents_is_rendered(tmp_path: Path) -> None:
    source = (
        "{% for m in messages %}[{{ m.role }}]{% if '</think>' in m.content %}{{ m.content.split('</think>')[-1] }}"
        "{% else %}{{ m.content }}{% endif %};{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    chat = template(tmp_path, source)
    for _ in range(20):
        assert chat.segments(["q", "a"], False) == [Segment("[user]q;[assistant]", False), Segment("a;", True)]
    assert chat.segments(["q", "x</think>y"], False)[-1] == Segment("y;", True)


@pytest.mark.parametrize("family", ["LLAMA3", "LLAMA4", "QWEN3", "GEMMA3"])
def test_learned_shapes_give_what_the_template_gives(family: str, tmp_path: Path) -> None:
    learned, rendered = (template(tmp_path, getattr(chat_templates, family)) for _ in range(2))
    draw = random.Random(3)
    for _ in range(200):
        system = draw.random() < 0.5
        turns = [draw.choice(TEXTS) for _ in range(system + 2 * draw.choice((1, 2, 3)))]
        assert learned.pieces(turns, system) == rendered._render_all(turns, system)
    assert learned.rendered <= 6 * (8 + 2)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{% for %}", "broken"),
        ("{{ ''.__class__.__mro__ }}", "changes earlier|fails|"),
        ("{% for i in range(10**9) %}x{% endfor %}", "fails"),
        ("{{ raise_exception('no system turns') }}", "no system turns"),
        ("{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}", "changes earlier turns"),
    ],
)
def test_a_template_is_not_trusted(source: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=message):
        template(tmp_path, source).segments(["q", "a", "q", "a"], False)


def test_the_tokenizer_of_the_model_is_found_where_the_hub_keeps_it(cache: Path, tmp_path: Path) -> None:
    model = find_model("meta/llama3_1@llama-3.1-8b-instruct")
    repository = tmp_path / "hub" / "models--meta-llama--Llama-3.1-8B-Instruct"
    variables = {"HF_HOME": str(tmp_path)}
    assert find_tokenizer(model, variables) is None
    older, newer = (repository / "snapshots" / name for name in ("aaaa", "bbbb"))
    shutil.copytree(prepare_tiny("llama3", cache), older)
    newer.mkdir()
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("bbbb")
    assert find_tokenizer(model, variables) == older  # the newer download has no tokenizer
    shutil.copytree(older, newer, dirs_exist_ok=True)
    assert find_tokenizer(model, variables) == newer
    assert find_tokenizer(find_model("meta/llama3_1@llama-3.1-8b"), variables) is None
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows(7, 5)[:-2]))
    words = ("data", "check", str(path), "--model", model.id, "--format", "json")
    found = process(*words, HF_HUB_CACHE=str(tmp_path / "hub"))
    exact = check_files(path, model=model, tokenizer=newer)
    assert found.document["tokensExact"] is True
    assert found.document["files"][0]["tokens"] == exact.training.to_json()["tokens"]
    assert "counting with the tokenizer of meta-llama/Llama-3.1-8B-Instruct" in found.err
