"""Requests to deployed models: predict, rawPredict, streamRawPredict, chat completions; and to managed open models.

The serving process answers; the answer is forwarded, and streams are forwarded part by part.
"""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import Response

from runner.catalog import Model
from runner.catalog import models as catalogue_models
from runner.emulator.aiplatform import generate_content, lifecycle, models, pictures
from runner.emulator.aiplatform.asking import headers_of, measured, parse, pick, question, serving_of
from runner.emulator.aiplatform.forwarding import ask, forward
from runner.emulator.aiplatform.scope import PARENT
from runner.emulator.definitions.checking import checked
from runner.emulator.errors import ApiError, invalid
from runner.emulator.routing import ApiRequest, Handler, Method, json_response

_MANAGED_SUFFIX = "-maas"


async def predict(request: ApiRequest) -> Response:
    """Answer `{"instances": …, "parameters": …}`."""
    endpoint, deployed = pick(request)
    body = await request.read_json()
    instances = body.get("instances")
    if not instances:
        raise invalid("The instances field is required: a list with at least one instance.")
    payload: dict[str, Any] = {"instances": instances}
    if body.get("parameters") is not None:
        payload["parameters"] = body["parameters"]

    async def answer() -> Response:
        serving = await serving_of(request, endpoint, deployed)
        response = await ask(serving, "/predict", pictures.embedded(request.emulator, json.dumps(payload).encode()))
        # PredictResponse has no field for the container's additional data; rawPredict forwards it.
        predictions = response.json()["predictions"]
        return json_response({"predictions": predictions, **_about(request, deployed)})

    return await measured(request, endpoint, deployed, answer())


def _about(request: ApiRequest, deployed: dict[str, Any]) -> dict[str, str]:
    """Return the fields of a prediction that name the model."""
    about = {
        "deployedModelId": deployed["id"],
        "model": deployed["model"],
        "modelDisplayName": deployed["displayName"],
        "modelVersionId": deployed["modelVersionId"],
    }
    try:
        name = f"{deployed['model']}@{deployed['modelVersionId']}"
        about["modelDisplayName"] = request.emulator.store.read(
            lambda connection: models.get(connection, name)["displayName"]
        )
    except ApiError:
        pass  # deleted since
    return about


async def raw_predict(request: ApiRequest) -> Response:
    """Forward a body: chat messages to chat completions, anything else to the prediction route.

    A plain prompt with its parameters is one instance, as in the container.
    """
    endpoint, deployed = pick(request)
    content = await question(request)
    body = parse(content)
    route = "/chat/completions" if "messages" in body else "/predict"
    if "prompt" in body and "instances" not in body:
        content = json.dumps({"instances": [body]}).encode()
    return await _passed_on(request, endpoint, deployed, route, content)


def _completions(route: str) -> Handler:
    """Return the handler of one of OpenAI's routes for a deployed model."""

    async def handler(request: ApiRequest) -> Response:
        endpoint, deployed = pick(request)
        content = await question(request)
        parse(content)
        return await _passed_on(request, endpoint, deployed, route, content)

    return handler


chat_completions = _completions("/chat/completions")
completions = _completions("/completions")


async def _passed_on(
    request: ApiRequest, endpoint: dict[str, Any], deployed: dict[str, Any], route: str, content: bytes
) -> Response:
    async def answer() -> Response:
        whole = pictures.embedded(request.emulator, content)
        return await forward(await serving_of(request, endpoint, deployed), route, whole, headers_of(deployed))

    return await measured(request, endpoint, deployed, answer())


async def managed_chat_completions(request: ApiRequest) -> Response:
    """Answer OpenAI's chat completions with a managed open model, named `publisher/model`."""
    return await _managed(request, "/chat/completions")


async def managed_completions(request: ApiRequest) -> Response:
    """Answer OpenAI's completions with a managed open model, named `publisher/model`."""
    return await _managed(request, "/completions")


async def _managed(request: ApiRequest, route: str) -> Response:
    content = await question(request)
    name = parse(content).get("model")
    if not isinstance(name, str) or not name:
        raise invalid("The model field is required, as publisher/model.")
    model = managed_model(name)
    if model is None:
        raise ApiError(
            "NOT_FOUND", f"Publisher Model `{name}` was not found or your project does not have access to it."
        )
    serving = await lifecycle.runtime(request.emulator).deployments.managed(model)
    return await forward(serving, route, pictures.embedded(request.emulator, content), {}, name=name)


def managed_model(name: str) -> Model | None:
    """Return the base model for a managed model's name such as `meta/llama-3.3-70b-instruct-maas`; None if none."""
    wanted = name.removeprefix("publishers/").replace("/models/", "/").removesuffix(_MANAGED_SUFFIX)
    for model in catalogue_models():
        publisher, _, rest = model.id.partition("/")
        short = rest.rpartition("@")[2]
        if wanted in (model.id, f"{publisher}/{short}", *model.aliases):
            return model
    return None


_API = "aiplatform.projects.locations.endpoints"
_ENDPOINT = f"{PARENT}/endpoints/{{endpoint}}"
METHODS = [
    Method(
        f"{_API}.chat.completions",
        "POST",
        f"{PARENT}/endpoints/openapi/chat/completions",
        managed_chat_completions,
    ),
    Method(f"{_API}.openapi.completions", "POST", f"{PARENT}/endpoints/openapi/completions", managed_completions),
    Method(f"{_API}.predict", "POST", f"{_ENDPOINT}:predict", predict),
    Method(f"{_API}.rawPredict", "POST", f"{_ENDPOINT}:rawPredict", raw_predict),
    Method(f"{_API}.streamRawPredict", "POST", f"{_ENDPOINT}:streamRawPredict", raw_predict),
    Method(f"{_API}.chat.completions", "POST", f"{_ENDPOINT}/chat/completions", chat_completions),
    Method(f"{_API}.invoke.invoke", "POST", f"{_ENDPOINT}/invoke/v1/chat/completions", chat_completions),
    Method(
        f"{_API}.deployedModels.invoke.invoke",
        "POST",
        f"{_ENDPOINT}/deployedModels/{{deployed}}/invoke/v1/chat/completions",
        chat_completions,
    ),
    Method(f"{_API}.invoke.invoke", "POST", f"{_ENDPOINT}/invoke/v1/completions", completions),
    Method(
        f"{_API}.deployedModels.invoke.invoke",
        "POST",
        f"{_ENDPOINT}/deployedModels/{{deployed}}/invoke/v1/completions",
        completions,
    ),
]
DEDICATED_METHODS = [
    checked(method)
    for method in [*METHODS, *generate_content.METHODS]
    if method.handler not in (managed_chat_completions, managed_completions)
]
"""The methods that the host of a dedicated endpoint accepts."""
