"""Completions of plain prompts; OpenAI's own SDK is the client."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.emulator.engine.serving_processes import Served, client_of

pytestmark = pytest.mark.training


@pytest.fixture(scope="module")
def sdk(server: Served) -> Iterator[openai.OpenAI]:
    client: Any = client_of(server.socket)
    with openai.OpenAI(base_url="http://model", api_key="none", http_client=client, max_retries=0) as opened:
        yield opened


def test_prompts_are_answered_in_order_as_predictions_are(sdk: openai.OpenAI, server: Served) -> None:
    prompts = ["say 3", "say 4"]
    done = sdk.completions.create(model="", prompt=prompts, max_tokens=8, temperature=0)
    assert (done.object, done.model) == ("text_completion", "tuned")
    assert [choice.index for choice in done.choices] == [0, 1]
    assert done.usage is not None
    assert done.usage.total_tokens == done.usage.prompt_tokens + done.usage.completion_tokens
    with client_of(server.socket) as client:
        instances = [{"prompt": text, "max_tokens": 8, "temperature": 0, "raw_response": True} for text in prompts]
        predicted = client.post("http://model/predict", json={"instances": instances}).json()["predictions"]
    assert [choice.text for choice in done.choices] == predicted
    echoed = sdk.completions.create(model="", prompt="say 3", max_tokens=8, temperature=0, echo=True)
    assert echoed.choices[0].text == "say 3" + done.choices[0].text


@pytest.mark.parametrize("seed", range(3))
def test_a_stream_is_the_whole_answer_in_pieces(sdk: openai.OpenAI, seed: int) -> None:
    request: dict[str, Any] = {"model": "", "prompt": ["a", "b"], "max_tokens": 12, "temperature": 1.5, "seed": seed}
    request |= {"n": 2, "logprobs": 2}
    whole = sdk.completions.create(**request)
    texts, tokens = [""] * 4, [0] * 4
    usage = None
    for chunk in sdk.completions.create(**request, stream=True, stream_options={"include_usage": True}):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            assert choice.logprobs is not None
            assert choice.logprobs.text_offset is not None
            texts[choice.index] += choice.text
            tokens[choice.index] += len(choice.logprobs.tokens or [])
    assert texts == [choice.text for choice in whole.choices]
    assert tokens == [len(choice.logprobs.tokens or []) for choice in whole.choices if choice.logprobs]
    assert usage == whole.usage


def test_every_mistake_is_named(sdk: openai.OpenAI) -> None:
    for given, words in (
        ({"prompt": ""}, "prompt: must be a text"),
        ({"prompt": [1, 2]}, "prompt: must be a text"),
        ({"prompt": "a", "best_of": 3, "suffix": "x"}, "best_of: is not supported"),
        ({"prompt": "a", "max_tokens": -1}, "max_tokens"),
        ({"prompt": "a", "logprobs": 9}, "logprobs"),
        ({"prompt": "a", "echo": True, "logprobs": 1}, "echo: goes without logprobs"),
    ):
        with pytest.raises(openai.BadRequestError, match=words):
            sdk.completions.create(model="", **given)


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({"stream_options": {"include_usage": True}}, "stream_options: needs stream to be true"),
        ({"stream": True, "stream_options": "usage"}, "stream_options: must be an object"),
        ({"stream": True, "stream_options": {"colour": 1}}, "stream_options.colour: is not supported"),
    ],
)
def test_stream_options_are_checked_as_those_of_chats_are(server: Served, request_: dict[str, Any], said: str) -> None:
    with client_of(server.socket) as client:
        answer = client.post("http://model/completions", json={"prompt": "a", **request_})
    assert answer.status_code == 400
    assert said in answer.json()["error"]["message"]
