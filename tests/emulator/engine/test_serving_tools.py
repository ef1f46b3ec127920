"""Answers that follow a schema, and calls of functions; OpenAI's own SDK is the client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import jsonschema
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.emulator.engine.serving.parameters import Problems
from runner.emulator.engine.serving.tools import Tools, read_tools
from tests.emulator.engine.serving_processes import Served, chat, client_of

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "green"]}, "count": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["colour", "count"],
    "additionalProperties": False,
}
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": "paint", "description": "Paints.", "parameters": SCHEMA}},
    {"type": "function", "function": {"name": "stop"}},
]


by_schema = pytest.mark.skipif(find_spec("llguidance") is None, reason="needs llguidance")


@pytest.fixture(scope="module")
def sdk(server: Served) -> Iterator[openai.OpenAI]:
    client: Any = client_of(server.socket)
    with openai.OpenAI(base_url="http://model", api_key="none", http_client=client, max_retries=0) as opened:
        yield opened


@pytest.mark.training
@by_schema
@pytest.mark.parametrize("temperature", [0.0, 1.0, 1.9])
def test_a_schema_is_followed_by_a_model_that_has_learned_nothing(server: Served, temperature: float) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA, "strict": True}}
    body = chat("Paint", response_format=wanted, temperature=temperature, max_tokens=60)
    (choice,) = server.post("/chat/completions", body).json()["choices"]
    assert choice["finish_reason"] == "stop"
    jsonschema.validate(json.loads(choice["message"]["content"]), SCHEMA)
    streamed = "".join(
        json.loads(line.removeprefix("data: "))["choices"][0]["delta"].get("content", "")
        for line in server.post("/chat/completions", {**body, "stream": True, "temperature": 0}).text.splitlines()
        if line.startswith("data: {")
    )
    jsonschema.validate(json.loads(streamed), SCHEMA)


@pytest.mark.training
@by_schema
def test_what_is_no_schema_is_refused(server: Served) -> None:
    wrong = {"type": "json_schema", "json_schema": {"schema": {"type": "no"}}}
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "no"}}}
    for field, body in (
        ("response_format.json_schema.schema", chat("x", response_format=wrong)),
        ("tools", chat("x", tools=[tool], tool_choice="required")),
    ):
        answer = server.post("/chat/completions", body)
        assert answer.status_code == 400
        assert f"{field}: is no JSON schema" in answer.json()["error"]["message"]


@pytest.mark.training
@by_schema
def test_rows_of_one_batch_follow_their_own_schemas(server: Served) -> None:
    bodies = [{"type": "object", "properties": {"n": {"const": row}}, "required": ["n"]} for row in range(4)]
    for row, schema in enumerate(bodies):
        wanted = {
            "type": "json_schema",
            "json_schema": {"name": "a", "schema": {**schema, "additionalProperties": False}},
        }
        answer = server.post("/chat/completions", chat("x", response_format=wanted, n=3, max_tokens=40)).json()
        assert [json.loads(one["message"]["content"]) for one in answer["choices"]] == [{"n": row}] * 3


@pytest.mark.training
@by_schema
def test_a_named_function_is_called(sdk: openai.OpenAI) -> None:
    choice = {"type": "function", "function": {"name": "paint"}}
    request: dict[str, Any] = {**chat("Paint"), "model": "m", "tools": TOOLS, "tool_choice": choice, "max_tokens": 60}
    message = sdk.chat.completions.create(**request).choices[0].message
    (call,) = message.tool_calls or []
    assert call.type == "function"
    assert call.function.name == "paint"
    jsonschema.validate(json.loads(call.function.arguments), SCHEMA)
    with sdk.chat.completions.stream(**request) as stream:
        (streamed,) = stream.get_final_completion().choices[0].message.tool_calls or []
    jsonschema.validate(json.loads(streamed.function.arguments), SCHEMA)
    again = [
        *request["messages"],
        message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "painted"},
    ]
    said = sdk.chat.completions.create(model="m", messages=again, tools=TOOLS, tool_choice="none", max_tokens=3)
    assert said.choices[0].message.tool_calls is None


@pytest.mark.training
@by_schema
def test_some_function_is_called_when_one_is_required(sdk: openai.OpenAI) -> None:
    only: list[Any] = [{"type": "function", "function": {"name": "paint", "parameters": SCHEMA}}]
    for seed in range(3):
        (choice,) = sdk.chat.completions.create(
            **chat("Paint"), model="m", tools=only, tool_choice="required", max_tokens=500, seed=seed
        ).choices
        if choice.finish_reason == "length":
            continue  # a model that has learned nothing may call without end
        assert choice.finish_reason == "tool_calls"
        for call in choice.message.tool_calls or []:
            assert call.type == "function"
            jsonschema.validate(json.loads(call.function.arguments), SCHEMA)


@pytest.mark.training
@by_schema
def test_a_free_model_may_answer_in_words(sdk: openai.OpenAI) -> None:
    request: dict[str, Any] = {**chat("Paint"), "model": "m", "tools": TOOLS, "max_tokens": 8, "temperature": 0}
    (choice,) = sdk.chat.completions.create(**request).choices
    pieces = sdk.chat.completions.create(**request, stream=True)
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices) == choice.message.content


def _auto() -> Tools:
    problems = Problems()
    tools = read_tools({"tools": TOOLS}, "", problems)
    assert tools is not None
    return tools


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "paint", "parameters": {"colour": "red"}}',
        ' {"name": "paint", "arguments": {"colour": "red"}}\n',
        '<tool_call>\n{"name": "paint", "arguments": {"colour": "red"}}\n</tool_call>',
        '[{"name": "paint", "parameters": {"colour": "red"}}]',
    ],
)
def test_calls_are_found_in_the_forms_of_the_families(text: str) -> None:
    (call,) = _auto().calls(text)
    assert call["function"] == {"name": "paint", "arguments": '{"colour": "red"}'}


@pytest.mark.parametrize("text", ["red", '{"colour": "red"}', '{"name": "burn", "parameters": {}}', "{", "", "[1]"])
def test_other_text_is_no_call(text: str) -> None:
    assert _auto().calls(text) == []


@given(st.text(max_size=20), st.integers(0, 20))
def test_what_is_held_back_may_be_a_call_and_a_call_is_held_back(text: str, at: int) -> None:
    tools = _auto()
    if tools.calls(text):
        assert tools.may_begin(text[:at])
    whole = '{"name": "stop", "parameters": {}}'
    assert tools.may_begin(whole[:at])


@pytest.mark.training
@by_schema
def test_one_call_at_most_where_calls_may_not_be_parallel(sdk: openai.OpenAI) -> None:
    asked: list[Any] = [{"role": "user", "content": "Paint."}]
    answer = sdk.chat.completions.create(
        model="x",
        messages=asked,
        tools=TOOLS[:1],
        tool_choice="required",
        parallel_tool_calls=False,
        max_tokens=90,
        temperature=0,
    )
    assert answer.choices[0].finish_reason == "tool_calls"
    assert len(answer.choices[0].message.tool_calls or []) == 1
