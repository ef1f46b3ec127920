"""Log probabilities of prompts: those of the model itself, in vLLM's form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openai
import pytest
import torch

from runner.emulator.engine.loading import LoadedModel, load
from runner.emulator.engine.protocol import ModelSource
from runner.emulator.engine.serving.engine import Engine
from runner.emulator.engine.serving.scores import PromptScorer
from runner.emulator.engine.serving.sequence import Prompt
from tests.emulator.engine.serving_processes import Served, client_of
from tests.emulator.engine.test_serving_engine import FAMILIES, Collector, Family, random_prompts

pytestmark = pytest.mark.training

QUESTION = {"role": "user", "content": "What is a car?"}
ANSWER = {"role": "assistant", "content": "A thing with wheels."}


def expected_scores(loaded: LoadedModel, prompt: Prompt) -> list[float]:
    with torch.inference_mode():
        logits = loaded.model(input_ids=torch.tensor([prompt.ids])).logits[0].float()
    logprobs = torch.log_softmax(logits, -1)
    return [float(logprobs[place, token]) for place, token in enumerate(prompt.ids[1:])]


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_the_models_own_whatever_is_read_with_them(family: Family, model_cache: Path) -> None:
    """Prompts of several lengths in one pass, cut into pieces of 50 positions, some of them not to be scored."""
    loaded = load(ModelSource(kind="tiny", family=family), cache_directory=str(model_cache), threads=1)
    vocabulary = int(loaded.model.get_output_embeddings().weight.shape[0])
    scorer = PromptScorer(loaded.model, 50 * vocabulary)
    engine = Engine(loaded.model, loaded.tokenizer, max_length=1024, scorer=scorer)
    collector = Collector(engine)
    prompts = random_prompts(loaded, [5, 90, 1, 300, 51])
    scored = [collector.start(one, prompt_logprobs=2, max_tokens=3, temperature=0.0) for one in prompts]
    plain = [collector.start(one, max_tokens=3, temperature=0.0) for one in prompts]
    engine.start()
    try:
        for prompt, with_scores, without in zip(prompts, scored, plain, strict=True):
            deltas = collector.collect(with_scores)
            found = deltas[0].prompt
            assert [one.own[0] for one in found] == prompt.ids[1:]
            assert [one.own[1] for one in found] == pytest.approx(expected_scores(loaded, prompt), abs=1e-3)
            for one in found:
                assert [place for _, _, place in one.top] == [1, 2]
                assert one.top[0][1] >= max(one.own[1], one.top[1][1])
                assert (one.own[2] == 1) == (one.own[0] == one.top[0][0])
            assert not any(delta.prompt for delta in deltas[1:])
            others = collector.collect(without)
            assert not any(delta.prompt for delta in others)
            assert [one.choices for one in others] == [one.choices for one in deltas]
    finally:
        engine.close()


def test_the_form_is_that_of_vllm(server: Served) -> None:
    client: Any = client_of(server.socket)
    sdk = openai.OpenAI(base_url="http://model", api_key="none", http_client=client, max_retries=0)
    extra = {"prompt_logprobs": 1, "add_generation_prompt": False}
    messages: Any = [QUESTION, ANSWER]
    with sdk:
        answer: Any = sdk.chat.completions.create(model="", messages=messages, max_tokens=1, n=2, extra_body=extra)
    scores = answer.prompt_logprobs
    assert len(scores) == answer.usage.prompt_tokens
    assert scores[0] is None
    for place in scores[1:]:
        for token, one in place.items():
            assert token.isdigit()
            assert one.keys() == {"logprob", "rank", "decoded_token"}
            assert one["logprob"] <= 0
        assert len(place) == (1 if next(iter(place.values()))["rank"] == 1 else 2), "the token's own, and the best"
    said = "".join(next(iter(place.values()))["decoded_token"] for place in scores[1:])
    assert said.endswith(ANSWER["content"] + "<|eot_id|>"), said

    begun = server.post("/chat/completions", {"messages": messages, "max_tokens": 1, "prompt_logprobs": 0}).json()
    more = begun["prompt_logprobs"][len(scores) :]
    assert "assistant" in "".join(next(iter(place.values()))["decoded_token"] for place in more)
    assert all(len(place) == 1 for place in begun["prompt_logprobs"][1:])
    assert "prompt_logprobs" not in server.post("/chat/completions", {"messages": messages, "max_tokens": 1}).json()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompt_logprobs": 1, "stream": True}, "prompt_logprobs: are not available when stream is true"),
        ({"prompt_logprobs": 21}, "prompt_logprobs: must be an integer from 0 to 20, got 21"),
        ({"prompt_logprobs": -1}, "prompt_logprobs: must be an integer from 0 to 20, got -1"),
        ({"add_generation_prompt": "no"}, "add_generation_prompt: must be true or false"),
        ({"continue_final_message": True}, "continue_final_message: is not supported"),
    ],
)
def test_what_cannot_be_asked_is_refused(server: Served, fields: dict[str, Any], message: str) -> None:
    answer = server.post("/chat/completions", {"messages": [QUESTION], **fields})
    assert answer.status_code == 400
    assert message in answer.json()["error"]["message"]
