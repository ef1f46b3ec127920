"""Chat completions of a serving process; OpenAI's own SDK is the client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.emulator.engine.serving_processes import Served, chat, client_of

pytestmark = pytest.mark.training


@pytest.fixture(scope="module")
def sdk(server: Served) -> Iterator[openai.OpenAI]:
    client: Any = client_of(server.socket)  # the SDK's annotation names one of the two HTTP libraries that it takes
    with openai.OpenAI(base_url="http://model", api_key="none", http_client=client, max_retries=0) as opened:
        yield opened


def test_openai_sdk_completion(sdk: openai.OpenAI) -> None:
    completion = sdk.chat.completions.create(
        model="",
        messages=[
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        ],
        max_completion_tokens=12,
        temperature=1.5,
        seed=1,
        n=2,
        logprobs=True,
        top_logprobs=3,
        reasoning_effort="low",
        extra_body={"chat_template_kwargs": {"enable_thinking": False}},
    )
    assert completion.model == "tuned"
    assert completion.usage is not None
    assert [one.index for one in completion.choices] == [0, 1]
    tokens = 0
    for choice in completion.choices:
        assert choice.message.role == "assistant"
        assert choice.finish_reason in ("stop", "length")
        assert choice.logprobs is not None
        assert choice.logprobs.content is not None
        tokens += len(choice.logprobs.content)
        for token in choice.logprobs.content:
            assert bytes(token.bytes or []).decode() == token.token
            assert len(token.top_logprobs) == 3
            assert token.top_logprobs[0].logprob >= token.logprob
    assert completion.usage.completion_tokens == tokens
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + tokens


@pytest.mark.parametrize("seed", range(4))
def test_openai_sdk_stream_equals_the_whole_answer(sdk: openai.OpenAI, seed: int) -> None:
    """Sampled as hot as this, an untrained model writes halves of characters too."""
    request: dict[str, Any] = {
        **chat("Say something"),
        "model": "m",
        "temperature": 1.9,
        "max_tokens": 60,
        "seed": seed,
        "n": 2,
        "logprobs": True,
        "stop": ["e"],
        "extra_body": {"ignore_eos": True},
    }
    whole = sdk.chat.completions.create(**request)
    chunks = list(sdk.chat.completions.create(**request, stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    for index, expected in enumerate(whole.choices):
        mine = [one.choices[0] for one in chunks[:-1] if one.choices[0].index == index]
        assert mine[0].delta.role == "assistant"
        assert "".join(one.delta.content or "" for one in mine) == expected.message.content
        assert "e" not in (expected.message.content or "")
        assert [one.finish_reason for one in mine] == [None] * (len(mine) - 1) + [expected.finish_reason]
        streamed = [token for one in mine if one.logprobs for token in one.logprobs.content or []]
        assert expected.logprobs is not None
        told = expected.logprobs.content or []
        assert [one.token for one in streamed] == [one.token for one in told]
        # The second time its prompt is known: other products, in another order, of the same numbers.
        assert [one.logprob for one in streamed] == pytest.approx([one.logprob for one in told], rel=1e-4)
    assert len({one.id for one in chunks}) == 1


def test_the_stream_is_server_sent_events(server: Served) -> None:
    with server.client.stream("POST", "/chat/completions", json=chat("hi", stream=True, max_tokens=5)) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = answer.read().decode().split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    assert all(json.loads(one.removeprefix("data: "))["object"] == "chat.completion.chunk" for one in events[:-2])


BAD_CHATS: list[tuple[dict[str, Any], str]] = [
    ({}, "messages: must be a list"),
    ({"messages": []}, "messages: must be a list of at least one message"),
    ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role: must be one of"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content: must be a string or a list of parts"),
    (
        {"messages": [{"role": "user", "content": [{"type": "audio"}]}]},
        "messages[0].content[0]: type must be text or image_url",
    ),
    (
        {"messages": [{"role": "assistant", "content": "x", "tool_calls": [{}]}]},
        "messages[0].tool_calls[0]: must be a function with a name",
    ),
    (chat("x", response_format={"type": "xml"}), "response_format: must be text, json_object or json_schema"),
    (chat("x", tools=[{"type": "function"}]), "tools[0]: must be a function with a name"),
    (chat("x", tool_choice="required"), "tool_choice: needs tools"),
    (chat("x", reasoning_effort="extreme"), "reasoning_effort: must be one of none, minimal, low"),
    (chat("x", chat_template_kwargs=[]), "chat_template_kwargs: must be an object"),
    (chat("x", chat_template_kwargs={"tokenize": True}), "chat_template_kwargs.tokenize: is not for a request to set"),
    (chat("x", temperatur=1), "temperatur: is not supported"),
    (chat("x", temperature="hot"), "temperature: must be a number of at least 0, got 'hot'"),
    (chat("x", top_p=0), "top_p: must be a number above 0 and at most 1, got 0"),
    (chat("x", max_tokens=0), "max_tokens: must be an integer of at least 1, got 0"),
    (chat("x", max_tokens=9000), "This model's maximum context length is 8192 tokens. However, you requested"),
    (chat("word " * 9000), "maximum context length is 8192 tokens"),
    (chat("x", stop=[""]), "stop: must not contain an empty string"),
    (chat("x", n=2, temperature=0), "n: must be 1 when using greedy sampling"),
    (chat("x", n=1000), "1000 sequences in one request are more than the 256"),
    (chat("x", top_logprobs=2), "top_logprobs: needs logprobs to be true"),
    (chat("x", stream_options={"include_usage": True}), "stream_options: needs stream to be true"),
    (chat("x", logit_bias={"5000": 1}, max_tokens=5), "Token id 5000 is not in the vocabulary"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}]},
        "messages[0].content[0]: this model takes no images",
    ),
]


@pytest.mark.parametrize(("body", "message"), BAD_CHATS)
def test_bad_chat_requests_name_the_field(server: Served, body: dict[str, Any], message: str) -> None:
    answer = server.post("/chat/completions", body)
    assert answer.status_code == 400
    assert answer.json()["error"]["status"] == "INVALID_ARGUMENT"
    assert message in answer.json()["error"]["message"]
