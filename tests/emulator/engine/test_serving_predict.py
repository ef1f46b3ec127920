"""The prediction route of Model Garden's container, over a serving process's Unix socket."""

from __future__ import annotations

import math
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.emulator.engine.serving_processes import Served, chat, client_of

pytestmark = pytest.mark.training

DIVERSE: dict[str, Any] = {"temperature": 1.8, "top_k": 30, "max_tokens": 40, "ignore_eos": True}
"""An untrained model repeats itself unless it is sampled hot; an answer then depends on its whole prompt."""

SEEDS = (1, 2, 1, 1, 1, 3, 2, 0)
"""For the concurrent prompts. No draw comes closer than 5e-4 to the border between two tokens, where the last bits of
a probability, which do depend on the batch (about 1e-6), would decide."""


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
