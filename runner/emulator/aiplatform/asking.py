"""Select the deployed model for a request, and read the request."""

from __future__ import annotations

import base64
import binascii
import json
import time
from collections.abc import Awaitable
from typing import Any

from starlette.responses import Response

from runner.emulator.aiplatform import dedicated, endpoints, lifecycle
from runner.emulator.aiplatform.serving import Serving
from runner.emulator.errors import ApiError, invalid
from runner.emulator.routing import ApiRequest


def pick(request: ApiRequest) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the endpoint in the path and the deployed model that answers. Raises ApiError."""

    def work(connection: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        endpoint = endpoints.get(connection, endpoints.name_of(connection, request.fields))
        dedicated.refuse_shared(request, endpoint)
        wanted = request.fields.get("deployed")
        if wanted is None:
            return endpoint, endpoints.pick(endpoint)
        for item in endpoint.get("deployedModels", []):
            if item["id"] == wanted:
                return endpoint, item
        raise ApiError("NOT_FOUND", f"The DeployedModel {wanted} is not found on Endpoint {endpoint['name']}.")

    return request.emulator.store.read(work)


async def serving_of(request: ApiRequest, endpoint: dict[str, Any], deployed: dict[str, Any]) -> Serving:
    """Return the answering process of a deployed model. Raises ApiError UNAVAILABLE."""
    name = f"{endpoint['name']}/deployedModels/{deployed['id']}"
    return await lifecycle.runtime(request.emulator).deployments.deployed(name)


async def measured(
    request: ApiRequest, endpoint: dict[str, Any], deployed: dict[str, Any], answer: Awaitable[Response]
) -> Response:
    """Await an answer, and count it, its error and its duration for the deployed model."""
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


def headers_of(deployed: dict[str, Any]) -> dict[str, str]:
    """Return the headers that name the deployed model."""
    return {
        "x-vertex-ai-deployed-model-id": deployed["id"],
        "x-vertex-ai-model": deployed["model"],
        "x-vertex-ai-model-version-id": deployed["modelVersionId"],
    }


async def question(request: ApiRequest) -> bytes:
    """Return the body of a request: the contents of the google.api.HttpBody of generated clients, or the body itself.

    Raises:
        ApiError: INVALID_ARGUMENT for a wrapped body that is not base64.
    """
    content = await request.read_body()
    if b"ttp" not in content and b'"data"' not in content:
        return content
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return content
    wrapped = (body.get("httpBody") or body.get("http_body")) if isinstance(body, dict) else None
    if wrapped is None and isinstance(body, dict) and "data" in body and body.keys() <= _HTTP_BODY:
        wrapped = body
    if not isinstance(wrapped, dict):
        return content
    try:
        # Generated clients use the URL-safe alphabet, others the standard one.
        return base64.b64decode(str(wrapped.get("data", "")).replace("-", "+").replace("_", "/"), validate=True)
    except binascii.Error as error:
        raise invalid(f"Invalid value at 'http_body.data' (TYPE_BYTES), Base64 decoding failed: {error}") from error


_HTTP_BODY = frozenset({"contentType", "content_type", "data", "extensions"})


def parse(content: bytes) -> dict[str, Any]:
    """Return the JSON object of a body that is forwarded. Raises ApiError INVALID_ARGUMENT."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise invalid(f"Invalid JSON payload received. {error}") from error
    if not isinstance(body, dict):
        raise invalid("The request body must be a JSON object.")
    return body
