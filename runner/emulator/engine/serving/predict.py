"""The prediction route of Model Garden's vLLM container: `{"instances": […], "parameters": {…}}`.

An instance is a `prompt` with vLLM's sampling parameters, or, with `"@requestFormat": "chatCompletions"`, a chat
completions request. Without `raw_response`, the prediction repeats the prompt before the output.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from runner.emulator.engine.serving.chat import ChatFormat, ChatRequest, read_chat_request
from runner.emulator.engine.serving.generation import Generation, Output
from runner.emulator.engine.serving.interface import ServingEngine
from runner.emulator.engine.serving.parameters import (
    READERS,
    Problems,
    SamplingParameters,
    boolean,
    make_parameters,
    read_fields,
    shown,
)
from runner.emulator.engine.serving.prompts import PromptEncoder
from runner.emulator.engine.serving.sequence import Prompt
from runner.emulator.errors import ApiError

_CHAT = "chatCompletions"
_READERS = {**READERS, "raw_response": boolean}


@dataclass(frozen=True, slots=True, kw_only=True)
class TextInstance:
    """A validated instance with a prompt."""

    text: str
    prompt: Prompt
    parameters: SamplingParameters
    raw_response: bool


Instance = TextInstance | ChatRequest


def read_instances(
    body: Mapping[str, Any], engine: ServingEngine, encoder: PromptEncoder, chat_defaults: Mapping[str, Any]
) -> list[Instance]:
    """Validate a prediction request.

    Args:
        body: as JSON; `parameters` contains defaults for every instance.
        engine: determines the context length.
        encoder: the encoder of the model.
        chat_defaults: sampling parameters of the model's generation configuration, for chat completions.

    Raises:
        ApiError: INVALID_ARGUMENT with every field that is wrong and its instance.
    """
    problems = Problems()
    for name in sorted(body.keys() - {"instances", "parameters"}):
        problems.add(name, "is not a field of a prediction request")
    instances, shared = body.get("instances"), body.get("parameters")
    if not isinstance(instances, list) or not instances:
        problems.add("instances", "must be a list of at least one instance")
        instances = []
    if shared is None:
        shared = {}
    elif not isinstance(shared, dict):
        problems.add("parameters", f"must be an object, got {shown(shared)}")
        shared = {}
    # An error in the shared parameters is reported once, not for each instance.
    _read_text_fields(shared, "parameters.", problems)
    problems.raise_if_any()
    checked: list[Instance] = []
    for number, instance in enumerate(instances):
        path = f"instances[{number}]"
        if not isinstance(instance, dict):
            problems.add(path, f"must be an object, got {shown(instance)}")
            continue
        try:
            checked.append(_read_instance({**shared, **instance}, path + ".", engine, encoder, chat_defaults))
        except ApiError as error:
            # A message about the whole instance names no field.
            problems.found.append(error.message if error.message.startswith(path) else f"{path}: {error.message}")
    problems.raise_if_any()
    return checked


def _read_instance(
    instance: Mapping[str, Any],
    path: str,
    engine: ServingEngine,
    encoder: PromptEncoder,
    chat_defaults: Mapping[str, Any],
) -> Instance:
    problems = Problems()
    kind = instance.get("@requestFormat")
    if kind == _CHAT:
        body = {name: value for name, value in instance.items() if name not in ("@requestFormat", "raw_response")}
        request = read_chat_request(body, engine, encoder, chat_defaults, path)
        if request.stream:
            problems.add(path + "stream", "predictions are not streamed: use chat/completions")
        problems.raise_if_any()
        return request
    if kind is not None:
        problems.add(path + "@requestFormat", f"must be {_CHAT}, got {shown(kind)}")
    text = instance.get("prompt")
    if not isinstance(text, str) or not text:
        problems.add(path + "prompt", f"must be a text that is not empty, got {shown(text)}")
    values = _read_text_fields(
        {name: value for name, value in instance.items() if name not in ("prompt", "@requestFormat")}, path, problems
    )
    raw_response = values.pop("raw_response", False)
    parameters = make_parameters(values, path, problems)
    problems.raise_if_any()
    if raw_response and parameters.logprobs is None:
        parameters = replace(parameters, logprobs=0)  # for cumulative_logprobs
    prompt = encoder.encode_text(str(text))
    engine.check(prompt, parameters)
    return TextInstance(text=str(text), prompt=prompt, parameters=parameters, raw_response=raw_response)


def _read_text_fields(fields: Mapping[str, Any], path: str, problems: Problems) -> dict[str, Any]:
    for name in sorted(fields.keys() - _READERS.keys()):
        if name == "stream" and fields[name] in (None, False):
            continue
        if fields[name] is not None:
            problems.add(path + name, "is not supported by this server")
    return read_fields(fields, _READERS, path, problems)


async def predict(model: str, engine: ServingEngine, instances: list[Instance]) -> dict[str, Any]:
    """Answer a prediction request with one prediction per output, in the order of the instances.

    If every instance requests the raw response, the answer also has `output_token_counts` and `cumulative_logprobs`,
    with one entry per prediction.
    """
    with Generation(engine, [(one.prompt, one.parameters) for one in instances]) as generation:
        outputs = await generation.outputs()
    predictions: list[Any] = []
    for instance, group in zip(instances, outputs, strict=True):
        if isinstance(instance, ChatRequest):
            predictions.append(ChatFormat(model, engine, instance).completion(group))
        else:
            predictions += [_prediction(instance, output) for output in group]
    body: dict[str, Any] = {"predictions": predictions}
    if all(isinstance(one, TextInstance) and one.raw_response for one in instances):
        everything = [output for group in outputs for output in group]
        body["output_token_counts"] = [len(output.choices) for output in everything]
        body["cumulative_logprobs"] = [output.cumulative_logprob for output in everything]
    return body


def _prediction(instance: TextInstance, output: Output) -> str:
    if instance.raw_response:
        return output.text
    # The container's own formatting strips both.
    answer = output.text.strip("\n")
    return f"Prompt:\n{instance.text.strip()}\nOutput:\n{answer}"
