"""Exact token counts: the same as training, the same with the fast tokenizer, no template run for each example."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from runner.catalog import find_model
from runner.datasets.checking.ranges import Settings, totals_of_range
from runner.datasets.checks import check_files
from runner.datasets.tokens.counters import TokenizerCounter, token_lengths
from runner.datasets.tokens.hub_cache import find_tokenizer
from runner.datasets.tokens.template_tokens import Frame, Frames
from runner.datasets.tokens.templates import ChatTemplate
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
    totals = totals_of_range(path, 0, size, Settings(ratio=0.25, tokenizer=folder, limit=limit, images=False))
    tally = totals.text_only
    assert sorted(token_lengths(tally.sizes, None, limit).elements()) == sorted(
        len(example.tokens) for example in trained.examples
    )
    assert tally.trained == sum(example.learned for example in trained.examples) > 0
    refused = {finding.line for finding in totals.findings if finding.severity == "error"}
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
        counter.measure_all([[f"question {index}", "an answer"]], [0])
    assert counter.library == "fastokens"
    assert counter.template.rendered < 15
    path = tmp_path / "t.jsonl"
    path.write_text('{"prompt": "What is a car?", "completion": "A vehicle."}\n')
    model = find_model("meta/llama3_1@llama-3.1-8b-instruct")
    report = check_files(path, model=model, tokenizer=prepare_tiny("llama3", cache))
    assert report.tokens_exact
    turns = ["What is a car?", "A vehicle."]
    report_tokens = [report.training.tokens.total], [report.training.trained_tokens]
    assert report_tokens == counter.measure_all([turns], [0])


@pytest.mark.training
@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_known_of_a_template_changes_no_count(family: str, cache: Path) -> None:
    """Contents alone are tokenised, and the sum is that of the rendered example, whatever a content holds."""
    draw = random.Random(11)
    counter = TokenizerCounter(prepare_tiny(family, cache))
    pieces = [
        *TEXTS,
        " ",
        "\n",
        "\n\n",
        "\r\n ",
        "<|",
        "|>",
        "<|eot_id",
        "\u00a0",
        "%s",
        "100 %",
        "'s",
        "1",
        "\u0301",
        "</think>",
    ]
    examples: list[list[str]] = []
    for _ in range(1500):
        system = draw.random() < 0.3
        count = 2 * draw.choice((1, 1, 2)) + system
        examples.append(["".join(draw.choices(pieces, k=draw.randint(1, 4))) for _ in range(count)])
    tokens, trained = counter.measure_all(examples, [0] * len(examples))
    reference = TokenizerCounter(prepare_tiny(family, cache))
    assert list(zip(tokens, trained or [], strict=True)) == list(map(reference._pieced, examples))
    assert counter.library == "fastokens"
    framed = {count % 2 == 1: frame for count, (frame, _) in counter._known.items()}
    assert framed[False] is not None, "else nothing was compared"
    # Gemma's template puts the instruction into the user's turn, where nothing parts the two.
    assert (framed[True] is None) == (family == "gemma3")


@pytest.mark.parametrize(
    ("change", "tokens"),
    [
        ({}, ["<a>", "<b>"]),
        ({"normalizer": {"type": "NFKC"}}, []),
        ({"pre_tokenizer": {"type": "Metaspace", "prepend_scheme": "first"}}, []),
        (
            {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "ByteLevel", "add_prefix_space": True}]}},
            [],
        ),
        ({"added": ["<a>", "><b"]}, []),
        ({"added": ["<a>", "x<a>y"]}, []),
        ({"lstrip": True}, []),
    ],
)
def test_a_tokenizer_that_may_look_across_control_tokens_is_given_the_whole_text(
    change: dict[str, Any], tokens: list[str], tmp_path: Path
) -> None:
    flags = {name: change.pop(name, False) for name in ("lstrip", "rstrip", "single_word", "normalized")}
    added = [{"content": name, **flags} for name in change.pop("added", ["<a>", "<b>"])]
    path = tmp_path / "tokenizer.json"
    path.write_text(
        json.dumps({"normalizer": None, "pre_tokenizer": {"type": "Digits"}, "added_tokens": added, **change})
    )
    frames = Frames(path, len)
    frame = frames.frame([(["<a>x", "y<b>z<a>", ""], False)])
    expected = Frame(total=4, trained=0, turns=(("x", "y", False), ("", "", False)))
    assert frame == (expected if tokens else None)
    assert frames.frame([(["<a>", "x", ""], False)]) is None, "nothing parts the contents"


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
        assert chat.pieces(["q", "a"]) == [("[user]q;[assistant]", False), ("a;", True)]
    assert chat.pieces(["q", "x</think>y"])[-1] == ("y;", True)


@pytest.mark.parametrize("family", ["LLAMA3", "LLAMA4", "QWEN3", "GEMMA3"])
def test_learned_shapes_give_what_the_template_gives(family: str, tmp_path: Path) -> None:
    learned, rendered = (template(tmp_path, getattr(chat_templates, family)) for _ in range(2))
    draw = random.Random(3)
    for _ in range(200):
        system = draw.random() < 0.5
        turns = [draw.choice(TEXTS) for _ in range(system + 2 * draw.choice((1, 2, 3)))]
        assert learned.pieces(turns) == rendered._render_all(turns)
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
        template(tmp_path, source).pieces(["q", "a", "q", "a"])


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{{ 9 ** (9 ** (9 ** 9)) }}",
        "{{ 'a' * 9999999999 }}",
        "{% set all = namespace(t='a') %}{% for i in range(99) %}{% set all.t = all.t ~ all.t %}{% endfor %}",
        "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}",
        "{{ 'a' | " + "trim | " * 20000 + "trim }}",
        "{{ " + "(" * 20000 + ")" * 20000 + " }}",
    ],
)
def test_a_hostile_template_ends_with_an_error_that_names_it(source: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"chat_template\.jinja: the chat template") as raised:
        template(tmp_path, source).pieces(["q", "a"])
    assert raised.value.code == "template_limit" or "fails" in raised.value.message or "broken" in raised.value.message


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
