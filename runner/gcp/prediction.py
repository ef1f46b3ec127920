"""Ask a deployed model, or one that Google manages.

Deployed models answer `predict` and, in the form of OpenAI's API, `chat/completions`; managed ones only the latter. An
endpoint with a host of its own refuses predictions on the shared one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, overload

import httpx

from runner.errors import GoogleApiError
from runner.gcp.endpoints import Endpoint, full_name, get_endpoint
from runner.gcp.failures import call, check, raise_from
from runner.gcp.session import Session

TIMEOUT_SECONDS = 600.0
"""The first answers of a deployed model take long (specification)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatAnswer:
    """A whole answer."""

    text: str
    finish_reason: str = ""
    model: str = ""
    usage: dict[str, int] = field(default_factory=dict)
    """`prompt_tokens`, `completion_tokens`, `total_tokens`."""
    raw: dict[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatChunk:
    """A piece of a streamed answer."""

    text: str
    finish_reason: str = ""


def predict(
    session: Session,
    endpoint: str | Endpoint,
    instances: Sequence[Mapping[str, Any]],
    parameters: Mapping[str, Any] | None = None,
) -> list[Any]:
    """Return one prediction per instance.

    Args:
        session: where.
        endpoint: id, full name or endpoint.
        instances: such as `{"prompt": …, "max_tokens": 200, "temperature": 1.0, "top_p": 1.0, "top_k": 1,
            "raw_response": True}`; without `raw_response` the text repeats the prompt.
        parameters: for all instances.

    Raises:
        NotFoundError: no such endpoint; GoogleApiError: nothing is deployed there, or an instance is wrong.
    """
    name, base = _address(session, endpoint)
    body: dict[str, Any] = {"instances": [dict(item) for item in instances]}
    if parameters:
        body["parameters"] = dict(parameters)

    def send() -> dict[str, Any]:
        response = session.http.post(f"{base}/v1beta1/{name}:predict", json=body, timeout=TIMEOUT_SECONDS)
        return check(response, "endpoints.predict", name)

    return list(call("endpoints.predict", name, send).get("predictions", []))


@overload
def chat(
    session: Session,
    *,
    endpoint: str | Endpoint | None = None,
    model: str | None = None,
    messages: Sequence[Mapping[str, Any]],
    stream: Literal[False] = False,
    **sampling: Any,
) -> ChatAnswer: ...


@overload
def chat(
    session: Session,
    *,
    endpoint: str | Endpoint | None = None,
    model: str | None = None,
    messages: Sequence[Mapping[str, Any]],
    stream: Literal[True],
    **sampling: Any,
) -> Iterator[ChatChunk]: ...


def chat(
    session: Session,
    *,
    endpoint: str | Endpoint | None = None,
    model: str | None = None,
    messages: Sequence[Mapping[str, Any]],
    stream: bool = False,
    **sampling: Any,
) -> ChatAnswer | Iterator[ChatChunk]:
    """Ask a deployed model (`endpoint`) or a managed one (`model`).

    Args:
        session: where.
        endpoint: id, full name or endpoint of a deployed model.
        model: a managed model, `meta/llama-3.3-70b-instruct-maas`.
        messages: `{"role": "user", "content": "…"}` in order.
        stream: return the pieces as they come instead of the whole.
        sampling: `max_tokens`, `temperature`, `top_p`, `stop`, `seed`, …; None is left out.

    Raises:
        ValueError: neither or both of endpoint and model are given.
        GoogleApiError, UnreachableError: as the service answers; of a stream, also between its pieces.
    """
    if (endpoint is None) == (model is None):
        raise ValueError("give either endpoint or model")
    if endpoint is not None:
        name, base = _address(session, endpoint)
    else:
        name, base = f"{session.environment.parent}/endpoints/openapi", ""
    url = f"{base}/v1beta1/{name}/chat/completions"
    body = {"model": model or "", "messages": [dict(item) for item in messages]}
    body |= {key: value for key, value in sampling.items() if value is not None}
    if stream:
        return _stream(session, url, name, {**body, "stream": True})

    def send() -> dict[str, Any]:
        return check(session.http.post(url, json=body, timeout=TIMEOUT_SECONDS), "chat.completions", name)

    return _answer(call("chat.completions", name, send))


def _address(session: Session, endpoint: str | Endpoint) -> tuple[str, str]:
    """Return the endpoint's full name, and its own base address or ""."""
    found = endpoint if isinstance(endpoint, Endpoint) else get_endpoint(session, full_name(session, endpoint))
    return found.name, f"https://{found.dedicated_dns}" if found.dedicated_dns else ""


def _answer(body: Mapping[str, Any]) -> ChatAnswer:
    choice = (body.get("choices") or [{}])[0]
    usage = body.get("usage") or {}
    return ChatAnswer(
        text=str((choice.get("message") or {}).get("content") or ""),
        finish_reason=str(choice.get("finish_reason") or ""),
        model=str(body.get("model", "")),
        usage={key: value for key, value in usage.items() if isinstance(value, int)},
        raw=dict(body),
    )


def _stream(session: Session, url: str, name: str, body: Mapping[str, Any]) -> Iterator[ChatChunk]:
    """Yield the pieces of a server-sent event stream until `[DONE]`."""
    try:
        with session.http.stream("POST", url, json=dict(body), timeout=TIMEOUT_SECONDS) as response:
            if response.is_error:
                response.read()
                response.raise_for_status()
            for line in response.iter_lines():
                if not line.startswith("data:"):
                    continue
                data = line.removeprefix("data:").strip()
                if data == "[DONE]":
                    return
                yield from _pieces(data, name)
    except httpx.HTTPError as error:
        raise_from(error, "chat.completions", name)


def _pieces(data: str, name: str) -> Iterator[ChatChunk]:
    try:
        event = json.loads(data)
    except ValueError as error:
        raise GoogleApiError(
            f"chat.completions {name}: the stream holds what is not JSON",
            status="INTERNAL",
            http=500,
            method="chat.completions",
            resource=name,
        ) from error
    if "error" in event:
        inner = event["error"] if isinstance(event["error"], dict) else {"message": str(event["error"])}
        code = inner.get("code")
        raise GoogleApiError(
            f"chat.completions {name}: {inner.get('message', 'the stream broke')}",
            status=str(inner.get("status") or inner.get("type") or "INTERNAL"),
            http=code if isinstance(code, int) else 500,
            method="chat.completions",
            resource=name,
        )
    for choice in event.get("choices") or []:
        text = str((choice.get("delta") or {}).get("content") or "")
        reason = str(choice.get("finish_reason") or "")
        if text or reason:
            yield ChatChunk(text=text, finish_reason=reason)
