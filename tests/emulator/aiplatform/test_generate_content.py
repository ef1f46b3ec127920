"""Gemini's form of a conversation with a tuned open model, by Google's client and by plain REST."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.emulator.aiplatform.vertex import Vertex

pytestmark = pytest.mark.training

BODY = {
    "contents": [{"role": "user", "parts": [{"text": "say 3"}]}],
    "systemInstruction": {"parts": [{"text": "Be brief."}]},
    "generationConfig": {"temperature": 0, "maxOutputTokens": 6, "topK": 40},
}


def test_it_says_what_chat_completions_say(deployed: tuple[Vertex, str]) -> None:
    vertex, name = deployed
    answer = vertex.post(f"{name}:generateContent", BODY).json()
    (candidate,) = answer["candidates"]
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "say 3"}]
    chat = vertex.post(f"{name}/chat/completions", {"messages": messages, "temperature": 0, "max_tokens": 6}).json()
    assert candidate["content"]["parts"] == [{"text": chat["choices"][0]["message"]["content"]}]
    assert candidate["finishReason"] == {"length": "MAX_TOKENS", "stop": "STOP"}[chat["choices"][0]["finish_reason"]]
    assert answer["usageMetadata"] == {
        "promptTokenCount": chat["usage"]["prompt_tokens"],
        "candidatesTokenCount": chat["usage"]["completion_tokens"],
        "totalTokenCount": chat["usage"]["total_tokens"],
    }
    counted = vertex.post(
        f"{name}:countTokens", {key: value for key, value in BODY.items() if key != "generationConfig"}
    ).json()
    assert counted == {"totalTokens": chat["usage"]["prompt_tokens"], "totalBillableCharacters": 4}


@pytest.mark.parametrize("events", [True, False])
def test_streams_add_up_to_the_whole(deployed: tuple[Vertex, str], events: bool) -> None:
    vertex, name = deployed
    whole = vertex.post(f"{name}:generateContent", BODY).json()
    response = vertex.post(f"{name}:streamGenerateContent" + ("?alt=sse" if events else ""), BODY)
    if events:
        pieces = [json.loads(part.removeprefix("data: ")) for part in response.text.split("\r\n\r\n") if part]
    else:
        pieces = response.json()
    candidates = [one for piece in pieces for one in piece.get("candidates", [])]
    text = "".join(part["text"] for one in candidates for part in one["content"].get("parts", []))
    assert text == whole["candidates"][0]["content"]["parts"][0]["text"]
    assert candidates[-1]["finishReason"] == whole["candidates"][0]["finishReason"]
    assert pieces[-1]["usageMetadata"] == whole["usageMetadata"]


def test_googles_client(deployed: tuple[Vertex, str]) -> None:
    from google.genai import types

    from tests.contract.test_vertex_clients import genai_client

    vertex, name = deployed
    client = genai_client(vertex.project)
    config = types.GenerateContentConfig(temperature=0, max_output_tokens=6)
    answer = client.models.generate_content(model=name, contents="say 3", config=config)
    assert answer.text
    assert answer.usage_metadata.candidates_token_count <= 6
    pieces = list(client.models.generate_content_stream(model=name, contents="say 3", config=config))
    assert "".join(piece.text or "" for piece in pieces) == answer.text
    assert client.models.count_tokens(model=name, contents="say 3").total_tokens > 0


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"contents": []}, "INVALID_ARGUMENT"),
        ({"contents": [{"role": "user"}]}, "INVALID_ARGUMENT"),
        ({"contents": [{"role": "robot", "parts": [{"text": "x"}]}]}, "INVALID_ARGUMENT"),
        ({"contents": [{"parts": [{"functionCall": {"name": "f"}}]}]}, "UNIMPLEMENTED"),
        ({"tools": [{"functionDeclarations": [{"name": "f"}]}]}, "UNIMPLEMENTED"),
        ({"generationConfig": {"speechConfig": {}}}, "UNIMPLEMENTED"),
        ({"generationConfig": {"temperature": -1}}, "INVALID_ARGUMENT"),
    ],
)
def test_what_it_cannot_answer_is_refused(deployed: tuple[Vertex, str], change: dict[str, Any], status: str) -> None:
    vertex, name = deployed
    for verb in ("generateContent", "streamGenerateContent"):
        vertex.error(vertex.post(f"{name}:{verb}", {**BODY, **change}), 400, status)


def test_a_bare_prompt_by_raw_predict(deployed: tuple[Vertex, str]) -> None:
    vertex, name = deployed
    prompt = {"prompt": "say 3", "max_tokens": 6, "temperature": 0, "raw_response": True}
    bare = vertex.post(f"{name}:rawPredict", prompt).json()["predictions"]
    assert bare == vertex.post(f"{name}:predict", {"instances": [prompt]}).json()["predictions"]


def test_replicas_of_a_deployed_model_are_changed(deployed: tuple[Vertex, str]) -> None:
    vertex, name = deployed
    (model,) = vertex.get(name)["deployedModels"]
    given = {"id": model["id"], "dedicatedResources": {"minReplicaCount": 1, "maxReplicaCount": 2}}
    body = {"deployedModel": given, "updateMask": "dedicatedResources.maxReplicaCount"}
    changed = vertex.finished(vertex.post(f"{name}:mutateDeployedModel", body))["response"]["deployedModel"]
    assert changed["dedicatedResources"] == {**model["dedicatedResources"], "maxReplicaCount": 2}
    assert vertex.get(name)["deployedModels"] == [changed]
    fixed = vertex.post(f"{name}:mutateDeployedModel", {**body, "updateMask": "model"})
    assert "model" in vertex.error(fixed, 400, "INVALID_ARGUMENT")
    unknown = {**body, "deployedModel": {"id": "9"}}
    vertex.error(vertex.post(f"{name}:mutateDeployedModel", unknown), 404, "NOT_FOUND")
