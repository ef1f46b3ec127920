"""Send requests to a deployed model, or to a model that Google manages.

Deployed models support `predict` and, in OpenAI's format, `chat/completions`; managed models only the latter. An
endpoint with its own host refuses predictions at the shared host.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, overload

from runner.errors import ConfigurationError, GoogleApiError, NotFoundError
from runner.gcp.endpoints import Endpoint, get_endpoint, list_endpoints, own_base
from runner.gcp.failures import data_loss, raise_from
from runner.gcp.rest import StatusError, TransportError
from runner.gcp.session import Session
from runner.json_text import parsed

TIMEOUT_SECONDS = 600.0
"""The first responses of a deployed model take long (specification)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatAnswer:
    """A complete answer."""

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


_SHORTEST = 4
"""Minimum number of characters for the beginning of an ID."""


def resolve_endpoint(session: Session, given: str | None = None) -> Endpoint:
    """Return an endpoint.

    Args:
        session: the project and location.
        given: full name, ID or its unique beginning, or display name. None selects the environment's default endpoint
            or, if that has no model, the only endpoint with a model.

    Raises:
        NotFoundError: there is no endpoint with this name.
        ConfigurationError: several endpoints have this display name, or the choice is ambiguous.
    """
    wanted = session.environment.default_endpoint if given is None else given
    if wanted.startswith("projects/"):
        found = get_endpoint(session, wanted)
        if given or found.deployed_models:
            return found
        wanted = ""
    every = list_endpoints(session)
    if given is None and not wanted:
        return _only(every)
    wanted = wanted.removeprefix("endpoints/")
    by_id = [item for item in every if item.id == wanted]
    named = [item for item in every if wanted and item.display_name == wanted]
    matches = by_id or named or [item for item in every if len(wanted) >= _SHORTEST and item.id.startswith(wanted)]
    if len(matches) == 1:
        if not given and not matches[0].deployed_models:
            return _only(every)
        return matches[0]
    if matches:
        ids = ", ".join(item.id for item in matches)
        raise ConfigurationError(f"{len(matches)} endpoints are called {wanted!r}: {ids}", hint="name one by its ID")
    raise NotFoundError(
        f"no endpoint in {session.environment.location} has the id or the name {wanted!r}",
        method="endpoints.get",
        resource=wanted,
        hint="`runner endpoints ls` lists them",
    )


def _only(every: Sequence[Endpoint]) -> Endpoint:
    ready = [item for item in every if item.deployed_models]
    if len(ready) == 1:
        return ready[0]
    if not ready:
        hint = "deploy one: `runner endpoints deploy JOB`; `runner jobs ls` lists jobs"
        raise ConfigurationError("no endpoint was named and no endpoint has a model", hint=hint)
    message = f"no endpoint was named and {len(ready)} endpoints have a model"
    raise ConfigurationError(message, hint="name one; `runner endpoints ls` lists them")


def predict(
    session: Session,
    endpoint: str | Endpoint | None,
    instances: Sequence[Mapping[str, Any]],
    parameters: Mapping[str, Any] | None = None,
    *,
    repeat: bool = True,
) -> list[Any]:
    """Return one prediction per instance.

    Args:
        session: the project and location.
        endpoint: see `resolve_endpoint`.
        instances: such as `{"prompt": …, "max_tokens": 200, "temperature": 1.0, "top_p": 1.0, "top_k": 1,
            "raw_response": True}`; without `raw_response`, the text repeats the prompt.
        parameters: parameters for all instances.
        repeat: retry temporary failures, because a prediction changes nothing.

    Raises:
        NotFoundError, ConfigurationError: see `resolve_endpoint`.
        GoogleApiError: nothing is deployed there, or an instance is incorrect.
    """
    name, base = _address(session, endpoint)
    body: dict[str, Any] = {"instances": [dict(item) for item in instances]}
    if parameters:
        body["parameters"] = dict(parameters)

    url = f"{base}/v1beta1/{name}:predict"
    answer = session.ask("POST", url, "endpoints.predict", name, json=body, timeout=TIMEOUT_SECONDS, idempotent=repeat)
    predictions = answer.get("predictions")
    if not isinstance(predictions, list) or len(predictions) != len(instances):
        raise data_loss(name, f"the answer has no prediction for each of {len(instances)}", method="endpoints.predict")
    return predictions


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
    """Send a chat to a deployed model (`endpoint`) or a managed model (`model`).

    Args:
        session: the project and location.
        endpoint: endpoint of a deployed model; see `resolve_endpoint`.
        model: a managed model, `meta/llama-3.3-70b-instruct-maas`, instead.
        messages: `{"role": "user", "content": "…"}` in order.
        stream: return the parts as they arrive instead of the complete answer.
        sampling: `max_tokens`, `temperature`, `top_p`, `stop`, `seed`, …; None values are omitted.

    Raises:
        ValueError: both endpoint and model are given.
        NotFoundError, ConfigurationError: see `resolve_endpoint`.
        GoogleApiError, UnreachableError: errors of the service; in a stream, also between its parts.
    """
    if endpoint is not None and model is not None:
        raise ValueError("give either endpoint or model")
    if model is None:
        name, base = _address(session, endpoint)
    else:
        name, base = f"{session.environment.parent}/endpoints/openapi", ""
    url = f"{base}/v1beta1/{name}/chat/completions"
    body = {"model": model or "", "messages": [dict(item) for item in messages]}
    body |= {key: value for key, value in sampling.items() if value is not None}
    if stream:
        return _stream(session, url, name, {**body, "stream": True})
    return _answer(session.ask("POST", url, "chat.completions", name, json=body, timeout=TIMEOUT_SECONDS), name)


def _address(session: Session, endpoint: str | Endpoint | None) -> tuple[str, str]:
    """Return the endpoint's full name, and its own base address or ""."""
    found = endpoint if isinstance(endpoint, Endpoint) else resolve_endpoint(session, endpoint)
    return found.name, own_base(session.environment, found)


def _answer(body: Mapping[str, Any], name: str) -> ChatAnswer:
    choices, usage = body.get("choices"), body.get("usage") or {}
    choice = choices[0] if choices else {}
    message = choice.get("message")
    if not isinstance(message, dict) or not isinstance(usage, dict):
        raise data_loss(name, "the answer has no message", method="chat.completions")
    return ChatAnswer(
        text=str(message.get("content") or ""),
        finish_reason=str(choice.get("finish_reason") or ""),
        model=str(body.get("model", "")),
        usage={key: value for key, value in usage.items() if isinstance(value, int)},
        raw=dict(body),
    )


def _stream(session: Session, url: str, name: str, body: Mapping[str, Any]) -> Iterator[ChatChunk]:
    """Yield the data of a server-sent event stream until `[DONE]`."""
    try:
        with session.http.stream("POST", url, json=dict(body), timeout=TIMEOUT_SECONDS) as response:
            if not response.is_success:
                response.read()
                response.raise_for_status()
            for line in response.lines():
                if not line.startswith("data:"):
                    continue
                data = line.removeprefix("data:").strip()
                if data == "[DONE]":
                    return
                yield from _pieces(data, name)
    except (StatusError, TransportError) as error:
        raise_from(error, "chat.completions", name)


def _pieces(data: str, name: str) -> Iterator[ChatChunk]:
    try:
        event = parsed(data)
    except ValueError as error:
        raise data_loss(name, "the stream contains text that is not JSON", method="chat.completions") from error
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
