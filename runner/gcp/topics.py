"""Messages to Pub/Sub topics, with the REST API."""

from __future__ import annotations

import base64
import json
import os
import re
from typing import Any

from runner.errors import ConfigurationError
from runner.gcp.failures import call, document_of
from runner.gcp.rest import RestClient
from runner.gcp.session import Session

_METHOD = "projects.topics.publish"
_PUBSUB = "https://pubsub.googleapis.com"
_EMULATOR_VARIABLE = "PUBSUB_EMULATOR_HOST"
"""Google's own variable for a local Pub/Sub: HOST:PORT, plain HTTP, no credentials."""
# Topic names: https://docs.cloud.google.com/pubsub/docs/pubsub-basics#resource_names
_TOPIC = re.compile(r"projects/[a-z0-9:.-]+/topics/[A-Za-z][A-Za-z0-9._~+%-]{2,254}")


def checked_topic(name: str) -> str:
    """Return the full name of a topic. Raises ConfigurationError for other texts."""
    topic = name.removeprefix("pubsub://")
    if not _TOPIC.fullmatch(topic):
        raise ConfigurationError(f"{name!r} is not projects/PROJECT/topics/TOPIC")
    return topic


def publish(session: Session, topic: str, body: dict[str, Any], attributes: dict[str, str]) -> str:
    """Publish one JSON message and return its ID. A retry after a lost response may publish it twice.

    Raises:
        NotFoundError, PermissionDeniedError: the topic does not exist, or the caller may not publish to it.
        UnreachableError: the service does not answer.
    """
    message = {"data": base64.b64encode(json.dumps(body).encode()).decode(), "attributes": attributes}
    local = os.environ.get(_EMULATOR_VARIABLE, "")
    address = f"{f'http://{local}' if local else _PUBSUB}/v1/{topic}:publish"

    request = {"messages": [message]}
    if local:
        with RestClient(trust_environment=False) as plain:
            answer = call(_METHOD, topic, lambda: plain.post(address, json=request).raise_for_status(), idempotent=True)
    else:
        answer = session.send("POST", address, _METHOD, topic, json=request, idempotent=True)
    return str(next(iter(document_of(answer, _METHOD, topic).get("messageIds") or [""])))
