"""Ask a deployed model by its id, its display name or the environment's default."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, overload

from runner.errors import ConfigurationError, NotFoundError
from runner.gcp import endpoints, prediction
from runner.gcp.endpoints import Endpoint
from runner.gcp.prediction import ChatAnswer, ChatChunk
from runner.gcp.session import Session


def resolve_endpoint(session: Session, given: str | None = None) -> Endpoint:
    """Return an endpoint.

    Args:
        session: where.
        given: full name, id or display name. None is the environment's default endpoint or, where that has no model,
            the only endpoint that has one.

    Raises:
        NotFoundError: there is none of that name.
        ConfigurationError: several have that display name, or nothing says which one is meant.
    """
    wanted = given or session.environment.default_endpoint
    if wanted.startswith("projects/"):
        found = endpoints.get_endpoint(session, wanted)
        if given or found.deployed_models:
            return found
        wanted = ""
    every = endpoints.list_endpoints(session)
    if not wanted:
        return _only(every)
    wanted = wanted.removeprefix("endpoints/")
    by_id = [item for item in every if item.id == wanted]
    matches = by_id or [item for item in every if item.display_name == wanted]
    if len(matches) == 1:
        if not given and not matches[0].deployed_models:
            return _only(every)
        return matches[0]
    if matches:
        ids = ", ".join(item.id for item in matches)
        message = f"{len(matches)} endpoints are called {wanted!r}: {ids}"
        raise ConfigurationError(message, problems=[message], hint="name one by its id")
    raise NotFoundError(
        f"no endpoint in {session.environment.location} has the id or the name {wanted!r}",
        status="NOT_FOUND",
        http=404,
        method="endpoints.get",
        resource=wanted,
        hint="`runner endpoints ls` lists them",
    )


def predict(
    session: Session,
    endpoint: str | Endpoint | None,
    instances: Sequence[Mapping[str, Any]],
    parameters: Mapping[str, Any] | None = None,
) -> list[Any]:
    """Return one prediction per instance; see `runner.gcp.prediction.predict`."""
    found = endpoint if isinstance(endpoint, Endpoint) else resolve_endpoint(session, endpoint)
    return prediction.predict(session, found, instances, parameters)


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
    """Ask an endpoint's model, or a managed `model`; see `runner.gcp.prediction.chat`."""
    asked: str | Endpoint | None = endpoint
    if model is None and not isinstance(endpoint, Endpoint):
        asked = resolve_endpoint(session, endpoint)
    if stream:
        pieces: Iterator[ChatChunk] = prediction.chat(
            session, endpoint=asked, model=model, messages=messages, stream=True, **sampling
        )
        return pieces
    answer: ChatAnswer = prediction.chat(session, endpoint=asked, model=model, messages=messages, **sampling)
    return answer


def _only(every: Sequence[Endpoint]) -> Endpoint:
    ready = [item for item in every if item.deployed_models]
    if len(ready) == 1:
        return ready[0]
    what = "no endpoint has a model" if not ready else f"{len(ready)} endpoints have a model"
    message = f"no endpoint was named and {what}"
    raise ConfigurationError(message, problems=[message], hint="--endpoint ID; `runner endpoints ls` lists them")
