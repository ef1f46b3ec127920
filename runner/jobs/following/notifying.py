"""Tell somebody else that a job has ended: a POST to an address that they chose, or a message to a Pub/Sub topic.

The address may be a secret, as Slack's are: it is never printed, and only its host is named in a problem.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from runner.addresses import is_safe
from runner.errors import ConfigurationError, RunnerError
from runner.gcp.rest import RestClient, TransportError
from runner.gcp.session import Session
from runner.gcp.topics import checked_topic, publish
from runner.gcp.tuning_jobs import TuningJob
from runner.jobs.following.progress import billed
from runner.prices import amount
from runner.wording import state_words

Style = Literal["json", "slack", "pubsub"]
Event = Literal["ended", "stalled", "timeout"]

ATTEMPTS = 3
TIMEOUT_SECONDS = 10.0
FIRST_PAUSE_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """Where to tell it, and in which form."""

    url: str
    """Address; for Pub/Sub the topic's full name."""
    style: Style

    @property
    def host(self) -> str:
        """Return what may be shown of the address."""
        if self.style == "pubsub":
            return self.url
        return urlsplit(self.url).hostname or ""


def webhook(url: str, style: Style | None = None) -> Webhook:
    """Return a checked webhook; Slack's form for an address of Slack, JSON for any other, unless `style` says.

    `projects/P/topics/T` is a topic of Pub/Sub.

    Raises:
        ConfigurationError: the address is neither https nor on this machine nor a topic.
    """
    if style == "pubsub" or url.startswith(("projects/", "pubsub://")):
        return Webhook(url=checked_topic(url), style="pubsub")
    if not is_safe(url):
        raise ConfigurationError("the address to notify must start with https:// (http:// only on this machine)")
    return Webhook(url=url, style=style or ("slack" if urlsplit(url).hostname == "hooks.slack.com" else "json"))


def text_of(event: Event, job: TuningJob) -> str:
    """Return one line about what happened to a job."""
    label = job.display_name or job.base_model
    if event == "ended":
        state = state_words(job.state)
        what = state + (f": {job.error_message}" if job.error_message else "")
    else:
        what = "makes no progress" if event == "stalled" else "has not ended before the timeout; it continues"
    return f"Tuning job {job.id} ({label}) {what}"


def payload(hook: Webhook, event: Event, job: TuningJob, *, cause: str | None = None) -> dict[str, Any]:
    """Return what is sent.

    Args:
        hook: its form decides.
        event: what happened.
        job: to which job.
        cause: class of a failure, where it is known.
    """
    text = text_of(event, job)
    used = billed(job)
    if hook.style == "slack":
        more = [f"`runner jobs why {job.id}`" if event != "ended" or not job.succeeded else job.final_checkpoint_uri]
        if used and used.usd is not None:
            more.append(f"{amount(used.usd)} at list price")
        # What is remote must not become markup: Slack's three characters, escaped as its documentation wants.
        safe = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        return {"text": "\n".join([safe, " · ".join(more)])}
    body = {
        "event": f"job.{event}",
        "text": text,
        "job": job.to_json(),
        "cause": cause,
        "billed": used.to_json() if used else None,
    }
    return {key: value for key, value in body.items() if value is not None}


def notify(session: Session, hook: Webhook, body: dict[str, Any]) -> str:
    """Send it, again if that seems worth it; return "" or why it was not received. Never raises for a failure."""
    if hook.style == "pubsub":
        attributes = {"event": str(body["event"]), "job": str(body["job"]["id"]), "state": str(body["job"]["state"])}
        try:
            publish(session, hook.url, body, attributes)
        except RunnerError as error:
            return f"{hook.host} was not notified: {error.message}"
        return ""
    problem = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(FIRST_PAUSE_SECONDS * 2 ** (attempt - 1))
        try:
            with RestClient() as client:
                response = client.post(hook.url, json=body, timeout=TIMEOUT_SECONDS)
        except TransportError as error:
            problem = str(error)
            continue
        if response.is_success:
            return ""
        problem = f"HTTP {response.status_code}"
        if response.status_code < 500 and response.status_code not in (408, 429):
            break
    return f"{hook.host} was not notified: {problem}"
