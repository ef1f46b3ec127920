"""Who answers questions: an endpoint, one model of it, or a model that Google manages."""

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
    """Who answers."""

    name: str
    endpoint: Endpoint | None = None
    model: str | None = None
    """Model that Google manages."""
    deployed_model: str = ""
    """Id of the one model of the endpoint that is asked, whatever its traffic; "" for whom the traffic falls on."""
    usd_per_hour: float | None = None

    def chat(self, session: Session, messages: Sequence[Mapping[str, Any]], **fields: Any) -> ChatAnswer:
        """Return the answer to a conversation, which is asked for again after failures that pass.

        Args:
            session: where.
            messages: the conversation.
            fields: `max_tokens`, `temperature`, …

        Raises:
            GoogleApiError, UnreachableError: it does not answer.
        """

        def ask() -> ChatAnswer:
            return prediction.chat(
                session, endpoint=self.endpoint, model=self.model, messages=messages, stream=False, **fields
            )

        # A question may be asked again: an answer changes nothing.
        return call("chat.completions", self.name, ask, idempotent=True)


def respondent(session: Session, endpoint: str | Endpoint | None, model: str | None = None) -> Respondent:
    """Return who answers: a model that Google manages, else an endpoint. Raises NotFoundError, ConfigurationError."""
    if model is not None:
        return Respondent(name=model, model=model)
    found = endpoint if isinstance(endpoint, Endpoint) else resolve_endpoint(session, endpoint)
    price = describe(found).usd_per_hour
    return Respondent(name=found.display_name or found.id, endpoint=found, usd_per_hour=price or None)
