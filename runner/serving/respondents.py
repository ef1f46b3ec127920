"""Models that answer questions: those of an endpoint, one of them, or a model that Google manages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runner.gcp import prediction
from runner.gcp.endpoints import Endpoint
from runner.gcp.failures import call
from runner.gcp.prediction import ChatAnswer, resolve_endpoint
from runner.gcp.session import Session
from runner.serving.listing import describe


@dataclass(frozen=True, slots=True, kw_only=True)
class Respondent:
    """A model or endpoint that answers."""

    name: str
    endpoint: Endpoint | None = None
    model: str | None = None
    """A model that Google manages."""
    deployed_model: str = ""
    """ID of one model of the endpoint, regardless of its traffic; "" selects a model by the traffic."""
    usd_per_hour: float | None = None

    def chat(self, session: Session, messages: Sequence[Mapping[str, Any]], **fields: Any) -> ChatAnswer:
        """Return the answer to a conversation, with retries after temporary failures.

        Args:
            session: the project and location.
            messages: the conversation.
            fields: `max_tokens`, `temperature`, …

        Raises:
            GoogleApiError, UnreachableError: the model does not answer.
        """

        def ask() -> ChatAnswer:
            return prediction.chat(
                session, endpoint=self.endpoint, model=self.model, messages=messages, stream=False, **fields
            )

        # A question can be repeated, because an answer changes nothing.
        return call("chat.completions", self.name, ask, idempotent=True)


def respondent(session: Session, endpoint: str | Endpoint | None, model: str | None = None) -> Respondent:
    """Return the model that Google manages, or the endpoint. Raises NotFoundError, ConfigurationError."""
    if model is not None:
        return Respondent(name=model, model=model)
    found = endpoint if isinstance(endpoint, Endpoint) else resolve_endpoint(session, endpoint)
    price = describe(found).usd_per_hour
    return Respondent(name=found.display_name or found.id, endpoint=found, usd_per_hour=price or None)
