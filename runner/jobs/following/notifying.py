"""Notify somebody when a job ends: with a POST request to an address, or with a message to a Pub/Sub topic.

The address may be a secret, as for Slack. It is never printed; error messages contain only its host.
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
    """The recipient and the format of a notification."""

    url: str
    """The address, or the full name of a Pub/Sub topic."""
    style: Style

    @property
    def host(self) -> str:
        """Return the part of the address that can be shown."""
        if self.style == "pubsub":
            return self.url
        return urlsplit(self.url).hostname or ""


def webhook(url: str, style: Style | None = None) -> Webhook:
    """Return a validated webhook, with Slack's format for a Slack address and JSON for others, unless `style` is set.

    `projects/P/topics/T` is a Pub/Sub topic.

    Raises:
        ConfigurationError: the address does not use https, is not on this machine, and is not a topic.
    """
    if style == "pubsub" or url.startswith(("projects/", "pubsub://")):
        return Webhook(url=checked_topic(url), style="pubsub")
    if not is_safe(url):
        raise ConfigurationError("the address to notify must start with https:// (http:// only on this machine)")
    return Webhook(url=url, style=style or ("slack" if urlsplit(url).hostname == "hooks.slack.com" else "json"))


def text_of(event: Event, job: TuningJob) -> str:
    """Return one line about an event of a job."""
    label = job.display_name or job.base_model
    if event == "ended":
        state = state_words(job.state)
        what = state + (f": {job.error_message}" if job.error_message else "")
    else:
        what = "makes no progress" if event == "stalled" else "has not ended before the timeout; it continues"
    return f"Tuning job {job.id} ({label}) {what}"


def payload(hook: Webhook, event: Event, job: TuningJob, *, cause: str | None = None) -> dict[str, Any]:
    """Return the body of a notification.

    Args:
        hook: determines the format.
        event: the event.
        job: the job.
        cause: the class of a failure, if known.
    """
    text = text_of(event, job)
    used = billed(job)
    if hook.style == "slack":
        more = [f"`runner jobs why {job.id}`" if event != "ended" or not job.succeeded else job.final_checkpoint_uri]
        if used and used.usd is not None:
            more.append(f"{amount(used.usd)} at list price")
        # Remote text must not become markup: Slack requires these three characters to be escaped.
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
    """Send a notification, with retries; return "" or the reason of a failure. Never raises for a failure."""
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
