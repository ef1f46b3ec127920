"""Asking deployed models: predict, rawPredict, streamRawPredict, chat completions; and managed open models by name.

The serving process answers; what it says is passed on, streams piece by piece as they come.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import httpx
from starlette.responses import Response, StreamingResponse

from runner.catalog import Model
from runner.catalog import models as catalogue_models
from runner.emulator.aiplatform import dedicated, endpoints, lifecycle, models
from runner.emulator.aiplatform.deployments import Serving
from runner.emulator.aiplatform.endpoint_routes import place
from runner.emulator.aiplatform.scope import PARENT
from runner.emulator.definitions.checking import checked
from runner.emulator.errors import HTTP_CODES, ApiError, invalid
from runner.emulator.routing import ApiRequest, Method, json_response

logger = logging.getLogger(__name__)

_MANAGED_SUFFIX = "-maas"


async def predict(request: ApiRequest) -> Response:
    """Answer `{"instances": …, "parameters": …}`."""
    endpoint, deployed = _pick(request)
    body = await request.read_json()
    instances = body.get("instances")
    if not instances:
        raise invalid("The instances field is required: a list with at least one instance.")
    payload: dict[str, Any] = {"instances": instances}
    if body.get("parameters") is not None:
        payload["parameters"] = body["parameters"]

    async def answer() -> Response:
        serving = await _serving(request, endpoint, deployed)
        response = await _ask(serving, "/predict", json.dumps(payload).encode())
        # What the container says beside the predictions, PredictResponse has no field for; rawPredict passes it on.
        predictions = response.json()["predictions"]
        return json_response({"predictions": predictions, **_about(request, deployed)})

    return await _measured(request, endpoint, deployed, answer())


def _about(request: ApiRequest, deployed: dict[str, Any]) -> dict[str, str]:
    """Return the fields of a prediction that say which model answered."""
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
    """Pass a body on as it is: chat messages to chat completions, anything else to the prediction route."""
    endpoint, deployed = _pick(request)
    content = await request.read_body()
    route = "/chat/completions" if "messages" in _parse(content) else "/predict"
    return await _passed_on(request, endpoint, deployed, route, content)


async def chat_completions(request: ApiRequest) -> Response:
    """Answer OpenAI's chat completions with a deployed model."""
    endpoint, deployed = _pick(request)
    content = await request.read_body()
    _parse(content)
    return await _passed_on(request, endpoint, deployed, "/chat/completions", content)


async def _passed_on(
    request: ApiRequest, endpoint: dict[str, Any], deployed: dict[str, Any], route: str, content: bytes
) -> Response:
    async def answer() -> Response:
        return await _forward(await _serving(request, endpoint, deployed), route, content, _headers(deployed))

    return await _measured(request, endpoint, deployed, answer())


async def managed_chat_completions(request: ApiRequest) -> Response:
    """Answer OpenAI's chat completions with a managed open model, named `publisher/model`."""
    content = await request.read_body()
    name = _parse(content).get("model")
    if not isinstance(name, str) or not name:
        raise invalid("The model field is required, as publisher/model.")
    model = managed_model(name)
    if model is None:
        raise ApiError(
            "NOT_FOUND", f"Publisher Model `{name}` was not found or your project does not have access to it."
        )
    serving = await lifecycle.runtime(request.emulator).deployments.managed(model)
    return await _forward(serving, "/chat/completions", content, {})


def managed_model(name: str) -> Model | None:
    """Return the base model behind a managed model's name such as `meta/llama-3.3-70b-instruct-maas`; None if none."""
    wanted = name.removeprefix("publishers/").replace("/models/", "/").removesuffix(_MANAGED_SUFFIX)
    for model in catalogue_models():
        publisher, _, rest = model.id.partition("/")
        short = rest.rpartition("@")[2]
        if wanted in (model.id, f"{publisher}/{short}", *model.aliases):
            return model
    return None


def _pick(request: ApiRequest) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the endpoint of the path and the deployed model that answers. Raises ApiError."""

    def work(connection: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        endpoint = endpoints.get(connection, place(connection, request)[1])
        dedicated.refuse_shared(request, endpoint)
        wanted = request.fields.get("deployed")
        if wanted is None:
            return endpoint, endpoints.pick(endpoint)
        for item in endpoint.get("deployedModels", []):
            if item["id"] == wanted:
                return endpoint, item
        raise ApiError("NOT_FOUND", f"The DeployedModel {wanted} is not found on Endpoint {endpoint['name']}.")

    return request.emulator.store.read(work)


async def _serving(request: ApiRequest, endpoint: dict[str, Any], deployed: dict[str, Any]) -> Serving:
    name = f"{endpoint['name']}/deployedModels/{deployed['id']}"
    return await lifecycle.runtime(request.emulator).deployments.deployed(name)


async def _measured(
    request: ApiRequest, endpoint: dict[str, Any], deployed: dict[str, Any], answer: Awaitable[Response]
) -> Response:
    """Await an answer and count it, its error and how long it took, for the deployed model that gave it."""
    start = time.perf_counter()
    status = 500
    try:
        response = await answer
        status = response.status_code
        return response
    except ApiError as error:
        status = error.http
        raise
    finally:
        name = f"{endpoint['name']}/deployedModels/{deployed['id']}"
        seconds = time.perf_counter() - start
        await lifecycle.runtime(request.emulator).usage.count(name, status, seconds)


def _headers(deployed: dict[str, Any]) -> dict[str, str]:
    return {
        "x-vertex-ai-deployed-model-id": deployed["id"],
        "x-vertex-ai-model": deployed["model"],
        "x-vertex-ai-model-version-id": deployed["modelVersionId"],
    }


def _parse(content: bytes) -> dict[str, Any]:
    try:
        body = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise invalid(f"Invalid JSON payload received. {error}") from error
    if not isinstance(body, dict):
        raise invalid("The request body must be a JSON object.")
    return body


async def _ask(serving: Serving, route: str, content: bytes) -> httpx.Response:
    """Return the process's whole answer. Raises ApiError for its errors and for its absence."""
    response = await _send(serving, route, content)
    try:
        await response.aread()
    except httpx.HTTPError as error:
        raise ApiError("UNAVAILABLE", "The model server stopped while answering. Please retry.") from error
    finally:
        await response.aclose()
    if response.status_code >= 400:
        raise _refusal(response)
    return response


async def _send(serving: Serving, route: str, content: bytes) -> httpx.Response:
    request = serving.client.build_request("POST", route, content=content, headers={"content-type": "application/json"})
    try:
        return await serving.client.send(request, stream=True)
    except httpx.TimeoutException as error:
        raise ApiError("DEADLINE_EXCEEDED", "The model took too long to answer.") from error
    except httpx.HTTPError as error:
        raise ApiError("UNAVAILABLE", "The model server stopped while answering. Please retry.") from error


def _refusal(response: httpx.Response) -> ApiError:
    try:
        error = response.json()["error"]
        status, message = str(error["status"]), str(error["message"])
    except (ValueError, KeyError, TypeError):
        status, message = "INTERNAL", "The model server failed."
    return ApiError(status if status in HTTP_CODES else "INTERNAL", message, http=response.status_code)


async def _forward(serving: Serving, route: str, content: bytes, headers: dict[str, str]) -> Response:
    """Pass a request on, and the answer back piece by piece. Raises ApiError for errors before the first piece."""
    response = await _send(serving, route, content)
    if response.status_code >= 400:
        try:
            await response.aread()
        finally:
            await response.aclose()
        raise _refusal(response)
    kind = response.headers.get("content-type", "application/json")

    async def pieces() -> AsyncIterator[bytes]:
        # Closing the upstream answer when the client goes away is what stops the generation.
        try:
            async for piece in response.aiter_raw():
                yield piece
        except httpx.HTTPError as error:
            logger.warning("the process serving %s stopped in the middle of an answer: %s", serving.name, error)
            raise
        finally:
            await response.aclose()

    length = response.headers.get("content-length")
    if length is not None:
        headers = {**headers, "content-length": length}
    return StreamingResponse(pieces(), response.status_code, headers, kind)


_API = "aiplatform.projects.locations.endpoints"
_ENDPOINT = f"{PARENT}/endpoints/{{endpoint}}"
METHODS = [
    Method(
        f"{_API}.chat.completions",
        "POST",
        f"{PARENT}/endpoints/openapi/chat/completions",
        managed_chat_completions,
    ),
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
]
DEDICATED_METHODS = [checked(method) for method in METHODS if method.handler is not managed_chat_completions]
"""What the host of a dedicated endpoint answers."""
