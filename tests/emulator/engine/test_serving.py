"""Serving processes as they run in the emulator, over their Unix sockets; OpenAI's own SDK among the clients."""

from __future__ import annotations

import base64
import io
import json
import math
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from PIL import Image

from runner.emulator.engine.launcher import Launcher
from runner.emulator.engine.protocol import ModelSource, ServingSpec
from tests.emulator.engine.serving_processes import Served, client_of, served

pytestmark = pytest.mark.training

LLAMA = ModelSource(kind="tiny", family="llama3")
DIVERSE: dict[str, Any] = {"temperature": 1.8, "top_k": 30, "max_tokens": 40, "ignore_eos": True}
"""An untrained model repeats itself unless it is sampled hot; an answer then depends on its whole prompt."""

SEEDS = (1, 2, 1, 1, 1, 3, 2, 0)
"""For the concurrent prompts. No draw comes closer than 5e-4 to the border between two tokens, where the last bits of
a probability, which do depend on the batch (about 1e-6), would decide."""


@pytest.fixture(scope="module")
def launcher() -> Iterator[Launcher]:
    launcher = Launcher()
    yield launcher
    launcher.close()


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def server(launcher: Launcher, cache: Path) -> Iterator[Served]:
    with served(launcher, LLAMA, cache) as server:
        yield server


@pytest.fixture(scope="module")
def images_server(launcher: Launcher, cache: Path) -> Iterator[Served]:
    with served(launcher, ModelSource(kind="tiny", family="llama4"), cache) as server:
        yield server


@pytest.fixture(scope="module")
def sdk(server: Served) -> openai.OpenAI:
    client: Any = client_of(server.socket)  # the SDK's annotation names one of the two HTTP libraries that it takes
    return openai.OpenAI(base_url="http://model", api_key="none", http_client=client, max_retries=0)


def chat(text: str, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **fields}


def test_health_says_what_is_served(server: Served) -> None:
    body = server.client.get("/health").json()
    assert (body["status"], body["standIn"], body["maxModelLength"]) == ("ok", True, 8192)
    assert "Llama 3" in body["weights"]
    assert stat.S_IMODE(server.socket.stat().st_mode) == 0o600


def test_the_documented_prediction(server: Served) -> None:
    """The specification's instance, with its numbers as protobuf's Struct carries them."""
    instance = {
        "prompt": "What is a car?",
        "max_tokens": 20.0,
        "temperature": 1.0,
        "top_p": 1.0,
        "top_k": 1.0,
        "raw_response": True,
    }
    raw = server.predict(instance)
    assert raw["output_token_counts"] == [20]
    [logprob] = raw["cumulative_logprobs"]
    assert -math.inf < logprob < 0
    [text] = raw["predictions"]
    assert isinstance(text, str)
    assert text
    framed = server.predict({**instance, "prompt": " What is a car?\n", "raw_response": False})
    assert framed.keys() == {"predictions"}
    assert framed["predictions"][0].startswith("Prompt:\nWhat is a car?\nOutput:\n")
    [framed] = server.predict({**instance, "raw_response": False})["predictions"]
    assert framed == "Prompt:\nWhat is a car?\nOutput:\n" + text.strip("\n")


def test_a_prediction_has_sixteen_tokens_unless_told_otherwise(server: Served) -> None:
    body = server.predict(
        {"prompt": "a", "ignore_eos": True},
        {"prompt": "b", "max_tokens": 3, "ignore_eos": True},
        parameters={"raw_response": True},
    )
    assert body["output_token_counts"] == [16, 3]


def test_parameters_are_defaults_that_an_instance_overrides(server: Served) -> None:
    shared = {**DIVERSE, "seed": 4, "raw_response": True}
    own: list[dict[str, Any]] = [{"prompt": "one"}, {"prompt": "one", "seed": 5, "max_tokens": 7}]
    body = server.predict(*own, parameters=shared)
    assert body["output_token_counts"] == [40, 7]
    assert body["predictions"] == [server.predict({**shared, **one})["predictions"][0] for one in own]


def test_several_outputs_of_one_prompt_are_several_predictions(server: Served) -> None:
    body = server.predict(
        {"prompt": "x", "n": 3, "seed": 1, "raw_response": True, **DIVERSE}, {"prompt": "y", "raw_response": True}
    )
    assert len(body["predictions"]) == len(body["output_token_counts"]) == 4
    assert len(set(body["predictions"][:3])) == 3


def test_a_chat_request_as_an_instance(server: Served) -> None:
    request = chat("hello", max_tokens=9.0, seed=3.0, temperature=1.8, ignore_eos=True)
    [prediction] = server.predict({"@requestFormat": "chatCompletions", **request})["predictions"]
    direct = server.post("/chat/completions", request).json()
    assert prediction["choices"] == direct["choices"]
    assert prediction["usage"] == direct["usage"]
    assert prediction["usage"]["completion_tokens"] == 9


def test_concurrent_answers_equal_those_one_at_a_time(server: Served) -> None:
    instances = [
        {
            "prompt": "word " * (1 + 13 * number),
            "seed": SEEDS[number],
            "raw_response": True,
            **DIVERSE,
            "max_tokens": 20 + 5 * number,
        }
        for number in range(8)
    ]
    alone = [server.predict(one)["predictions"] for one in instances]
    assert len({one[0] for one in alone}) == 8
    clients = [client_of(server.socket) for _ in instances]
    barrier = threading.Barrier(len(instances))

    def ask(number: int) -> list[Any]:
        answers = []
        barrier.wait(30)
        for turn in range(3):
            instance = instances[(number + turn) % len(instances)]
            answers.append(clients[number].post("/predict", json={"instances": [instance]}).json()["predictions"])
        return answers

    before = server.metrics()
    with ThreadPoolExecutor(len(instances)) as pool:
        together = list(pool.map(ask, range(len(instances))))
    after = server.metrics()
    for client in clients:
        client.close()
    assert together == [[alone[(number + turn) % 8] for turn in range(3)] for number in range(8)]
    generated = after["generatedTokens"] - before["generatedTokens"]
    # Otherwise nothing was batched, and the comparison would say nothing.
    assert after["steps"] - before["steps"] < generated / 2


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
        assert streamed == expected.logprobs.content
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
        "messages[0].tool_calls: is not supported",
    ),
    (chat("x", response_format={"type": "json_object"}), "response_format: is not supported"),
    (chat("x", tools=[{"type": "function"}]), "tools: is not supported"),
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


BAD_PREDICTIONS: list[tuple[Any, str]] = [
    ({}, "instances: must be a list of at least one instance"),
    ({"instances": [{"prompt": "x"}], "deployedModelId": "1"}, "deployedModelId: is not a field"),
    ({"instances": ["x"]}, "instances[0]: must be an object, got 'x'"),
    ({"instances": [{"prompt": "x"}, {"max_tokens": 3}]}, "instances[1].prompt: must be a text"),
    (
        {"instances": [{"prompt": "x", "max_tokens": 2.5}]},
        "instances[0].max_tokens: must be an integer of at least 1, got 2.5",
    ),
    ({"instances": [{"prompt": "x", "top_k": -2}]}, "instances[0].top_k: must be an integer of at least -1, got -2"),
    ({"instances": [{"prompt": "x", "best_of": 2}]}, "instances[0].best_of: is not supported"),
    ({"instances": [{"prompt": "x", "stream": True}]}, "instances[0].stream: is not supported"),
    (
        {"instances": [{"prompt": "x", "raw_response": "yes"}]},
        "instances[0].raw_response: must be true or false, got 'yes'",
    ),
    (
        {"instances": [{"prompt": "x", "min_tokens": 20}]},
        "instances[0].min_tokens: must be less than or equal to max_tokens=16",
    ),
    ({"instances": [{"prompt": "x"}], "parameters": {"seed": "s"}}, "parameters.seed: must be an integer"),
    ({"instances": [{"prompt": "x"}], "parameters": "{}"}, "parameters: must be an object"),
    (
        {"instances": [{"prompt": "x"}, {"prompt": "word " * 9000}]},
        "instances[1]: This model's maximum context length is 8192",
    ),
    (
        {"instances": [{"@requestFormat": "chat", "prompt": "x"}]},
        "instances[0].@requestFormat: must be chatCompletions",
    ),
    ({"instances": [{"@requestFormat": "chatCompletions", "messages": 1}]}, "instances[0].messages: must be a list"),
]


@pytest.mark.parametrize(("body", "message"), BAD_PREDICTIONS)
def test_bad_predictions_name_instance_and_field(server: Served, body: Any, message: str) -> None:
    answer = server.post("/predict", body)
    assert answer.status_code == 400
    assert message in answer.json()["error"]["message"]


def test_every_mistake_is_reported_at_once(server: Served) -> None:
    body = {"instances": [{"prompt": "", "top_p": 7}, {"prompt": "x", "seed": None, "foo": 1}]}
    message = server.post("/predict", body).json()["error"]["message"]
    assert [one.split(":")[0] for one in message.split("; ")] == [
        "instances[0].prompt",
        "instances[0].top_p",
        "instances[1].foo",
    ]


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_json_object(server: Served, content: bytes) -> None:
    answer = server.client.post("/predict", content=content)
    assert (answer.status_code, answer.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")


def test_unknown_routes_and_methods(server: Served) -> None:
    assert server.client.get("/models").json()["error"]["status"] == "NOT_FOUND"
    assert server.client.get("/predict").status_code == 405


def test_a_full_queue_answers_429_and_a_disconnect_frees_its_place(launcher: Launcher, cache: Path) -> None:
    endless = chat("go on", stream=True, ignore_eos=True, temperature=1.0)
    with served(launcher, LLAMA, cache, max_batch=1, max_queue=1) as server:
        with client_of(server.socket) as streaming, client_of(server.socket) as waiting:
            with streaming.stream("POST", "/chat/completions", json=endless) as answer:
                events = answer.iter_raw()
                next(events)
                server.wait_for("runningSequences == 1 and queueDepth == 0")
                with ThreadPoolExecutor(1) as pool:
                    request = {"instances": [{"prompt": "x", "raw_response": True, "ignore_eos": True}]}
                    second = pool.submit(waiting.post, "/predict", json=request)
                    server.wait_for("queueDepth == 1")
                    for path, body in (("/predict", request), ("/chat/completions", endless)):
                        refused = server.post(path, body)
                        assert refused.status_code == 429
                        assert refused.json()["error"]["status"] == "RESOURCE_EXHAUSTED"
                    answer.close()  # the stream's client goes away, and the one that waits gets its place
                    assert second.result(30).json()["output_token_counts"] == [16]
            metrics = server.wait_for("runningSequences == 0")
            assert metrics["finishedSequences"]["cancelled"] == 1
            assert metrics["rejectedRequests"] == 2
        # The same for an answer that is not streamed.
        impatient = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(server.socket)), base_url="http://model", timeout=0.5
        )
        with impatient, pytest.raises(httpx.ReadTimeout):
            impatient.post("/chat/completions", json={**endless, "stream": False})
        server.wait_for("runningSequences == 0 and finishedSequences['cancelled'] == 2")
        # Asked to end, it answers what has begun, within limits, and exits cleanly.
        with ThreadPoolExecutor(1) as pool:
            last = pool.submit(
                server.post, "/predict", {"instances": [{"prompt": "x", "max_tokens": 300, "ignore_eos": True}]}
            )
            server.wait_for("runningSequences == 1")
            server.process.terminate()
            assert last.result(30).status_code == 200
        assert server.process.join(30) == 0
        assert not server.socket.exists()


def picture(colour: str) -> dict[str, Any]:
    buffer = io.BytesIO()
    Image.new("RGB", (100, 60), colour).save(buffer, "PNG")
    return {
        "type": "image_url",
        "image_url": {"url": f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"},
    }


def about(*parts: dict[str, Any]) -> dict[str, Any]:
    content = [*parts, {"type": "text", "text": "What is this?"}]
    return {
        "messages": [{"role": "user", "content": content}],
        "max_tokens": 8,
        "seed": 1,
        "logprobs": True,
        "ignore_eos": True,
    }


def test_images_are_seen(images_server: Served) -> None:
    def first_logprob(*parts: dict[str, Any]) -> tuple[float, int]:
        answer = images_server.post("/chat/completions", {**about(*parts), "temperature": 0})
        assert answer.status_code == 200, answer.text
        body = answer.json()
        return body["choices"][0]["logprobs"]["content"][0]["logprob"], body["usage"]["prompt_tokens"]

    nothing, without = first_logprob()
    red, with_one = first_logprob(picture("red"))
    blue, _ = first_logprob(picture("blue"))
    _, with_two = first_logprob(picture("red"), picture("blue"))
    assert len({nothing, red, blue}) == 3
    assert with_two - with_one == with_one - without > 10
    assert first_logprob(picture("red"))[0] == red


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("gs://bucket/cat.png", "image_url must be a data: URL, got gs: this server fetches nothing"),
        ("https://example.com/cat.png", "image_url must be a data: URL, got https: this server fetches nothing"),
        ("data:image/png,abc", "image_url must be base64"),
        ("data:image/png;base64,!!", "image_url holds no readable image"),
        ("data:image/png;base64,AAAA", "image_url holds no readable image"),
        (None, "image_url must be a data: URL, got None"),
    ],
)
def test_images_that_cannot_be_used(images_server: Served, url: str | None, message: str) -> None:
    answer = images_server.post("/chat/completions", about({"type": "image_url", "image_url": {"url": url}}))
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith(f"messages[0].content[0]: {message}")


def test_weights_that_cannot_be_loaded_are_explained(launcher: Launcher, tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    source = ModelSource(kind="custom", directory=str(tmp_path / "weights"))
    spec = ServingSpec(source=source, socket=str(tmp_path / "s"), name="m", cache_directory=str(tmp_path))
    spec.write(tmp_path / "serving.json")
    assert launcher.start_serving(tmp_path).join(60) == 1
    failure = json.loads((tmp_path / "failed.json").read_text())
    assert failure.keys() == {"status", "message"}
    assert "config.json" in failure["message"]
