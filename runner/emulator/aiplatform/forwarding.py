"""Forwarding of requests to the process of a deployed model."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from urllib.parse import quote

import httpx
from starlette.responses import Response

from runner.emulator.aiplatform.serving import Serving
from runner.emulator.errors import ApiError
from runner.emulator.routing import StreamedResponse
from runner.status_codes import HTTP

logger = logging.getLogger(__name__)


async def ask(serving: Serving, route: str, content: bytes) -> httpx.Response:
    """Return the process's complete answer. Raises ApiError for its errors, and if it is not available."""
    response = await send(serving, route, content)
    try:
        await response.aread()
    except httpx.HTTPError as error:
        raise ApiError("UNAVAILABLE", "The model server stopped while answering. Please retry.") from error
    finally:
        await response.aclose()
    if response.status_code >= 400:
        raise refusal_of(response)
    return response


async def send(serving: Serving, route: str, content: bytes, *, name: str = "") -> httpx.Response:
    """Return the process's answer when it begins; the caller closes it. Raises ApiError.

    Args:
        serving: the process.
        route: the route of the process.
        content: the body.
        name: name of the model for the answer; the process has its own name.
    """
    headers = {"content-type": "application/json"} | ({"x-served-name": quote(name)} if name else {})
    request = serving.client.build_request("POST", route, content=content, headers=headers)
    try:
        return await serving.client.send(request, stream=True)
    except httpx.TimeoutException as error:
        raise ApiError("DEADLINE_EXCEEDED", "The model took too long to answer.") from error
    except httpx.HTTPError as error:
        raise ApiError("UNAVAILABLE", "The model server stopped while answering. Please retry.") from error


def refusal_of(response: httpx.Response) -> ApiError:
    """Return the error in a process's answer, after reading it."""
    try:
        error = response.json()["error"]
        status, message = str(error["status"]), str(error["message"])
    except (ValueError, KeyError, TypeError):
        status, message = "INTERNAL", "The model server failed."
    return ApiError(status if status in HTTP else "INTERNAL", message, http=response.status_code)


async def begin(serving: Serving, route: str, content: bytes, *, name: str = "") -> httpx.Response:
    """Forward a request; return the answer before its first part. Raises ApiError for a refusal."""
    response = await send(serving, route, content, name=name)
    if response.status_code >= 400:
        try:
            await response.aread()
        finally:
            await response.aclose()
        raise refusal_of(response)
    return response


async def forward(serving: Serving, route: str, content: bytes, headers: dict[str, str], *, name: str = "") -> Response:
    """Forward a request and its answer part by part. Raises ApiError for errors before the first part."""
    response = await begin(serving, route, content, name=name)
    kind = response.headers.get("content-type", "application/json")

    async def pieces() -> AsyncGenerator[bytes, None]:
        # Closing the process's answer when the client disconnects stops the generation.
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
    return StreamedResponse(pieces(), response.status_code, headers, kind)
