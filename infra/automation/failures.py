"""Reports failures from the engine's own events: the resource, the cause in one sentence, and the next command."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from infra.answers import LONGEST, sentence
from infra.automation.invocation import Ended, Event
from infra.urns import key_of
from runner.errors import RunnerError

INSTALL = "https://www.pulumi.com/docs/install/"
_MOST = 20
_LOCK = re.compile(r"created by (?P<who>\S+?)@(?P<host>\S+) \(pid (?P<pid>\d+)\) at (?P<at>\S+)")


class EngineError(RunnerError):
    """The engine ran and failed. `problems` lists all causes, each with its resource."""

    code = "infrastructure"
    usual_hint = "`runner infra doctor` checks the engine, the credentials and the settings"

    def __init__(self, message: str, *, hint: str | None = None, problems: Sequence[str] = ()) -> None:
        super().__init__(message, hint=hint)
        self.problems = list(problems)

    def to_json(self) -> dict[str, Any]:
        """Add the list of problems."""
        return {**super().to_json(), **({"problems": self.problems} if self.problems else {})}


@dataclass(frozen=True, slots=True)
class Cause:
    """A failure."""

    urn: str
    """URN of the resource, or "" if no resource caused the failure."""
    text: str

    def __str__(self) -> str:
        return f"{key_of(self.urn)}: {self.text}" if self.urn else self.text


def causes(events: list[Event]) -> list[Cause]:
    """Return every failure in the events once, including broken mandatory rules."""
    found = [*_diagnosed(events), *_forbidden(events)]
    return list(dict.fromkeys(found))


def _diagnosed(events: list[Event]) -> Iterator[Cause]:
    for event in events:
        body = event.get("diagnosticEvent") or {}
        if body.get("severity") == "error" and (text := sentence(str(body.get("message", "")))):
            urn = str(body.get("urn", ""))
            yield Cause("" if ":pulumi:Stack::" in urn else urn, text)


def _forbidden(events: list[Event]) -> Iterator[Cause]:
    for event in events:
        body = event.get("policyEvent") or {}
        if body.get("enforcementLevel") == "mandatory":
            text = " ".join(str(body.get("message", "")).split())
            yield Cause(str(body.get("resourceUrn", "")), f"rule {body.get('policyName')}: {text}"[:LONGEST])


_HINTS = (
    ("currently locked", "if no other run is alive, `pulumi cancel --stack STACK --yes` removes the lock"),
    ("incorrect passphrase", "PULUMI_CONFIG_PASSPHRASE is not the passphrase that the stack was created with"),
    (
        "passphrase must be set",
        "set PULUMI_CONFIG_PASSPHRASE, or create the stack with a key; see `runner infra bootstrap --stack STACK`",
    ),
    ("does not satisfy the version range", f"update the engine: {INSTALL}"),
    ("no language plugin", f"the engine alone is not enough; install all of Pulumi: {INSTALL}"),
    ("no resource plugin", "run `pulumi install` in the folder of Pulumi.yaml to download the provider"),
    ("unable to open state directory", "create that folder, or set PULUMI_BACKEND_URL to another one"),
    ("PULUMI_ACCESS_TOKEN must be set", "run `pulumi login`, or set PULUMI_BACKEND_URL=gs://BUCKET"),
    ("could not find default credentials", "run `gcloud auth application-default login`"),
    ("bucket doesn't exist", "run `runner infra bootstrap --stack STACK` to create it"),
    (
        # The very first request needs this API: `up` cannot get far enough to enable it.
        "Cloud Resource Manager API",
        "run `runner infra bootstrap --stack STACK` to enable it; the API needs a few minutes after that",
    ),
    (
        "has not been used in project",
        "the API needs a few minutes after it was enabled; then run `runner infra up --stack STACK`",
    ),
    (
        "deployed model",
        "undeploy its models with `runner endpoints undeploy ENDPOINT`; `runner endpoints ls` lists the endpoints",
    ),
    ("not empty", "delete the objects, or set open-model-tuning:forceDestroy to true and run `up` first"),
    (
        "lready exist",
        "run `runner infra up --stack STACK` again: it adopts its own resources, and explains the others",
    ),
    ("existing object already found", "run `runner infra up --stack STACK` again: it adopts what is in the perimeter"),
    ("lready own", "run `runner infra up --stack STACK` again: it adopts the resources of this stack"),
    ("(403)", "ask for the missing role; docs/iam.md lists the roles of the deploying account"),
    ("rule ", "change the setting that the rule names; `runner infra doctor --stack STACK` checks all rules offline"),
    ("(429)", "wait a minute, then run `runner infra up --stack STACK` to continue"),
    ("(500)", "run `runner infra up --stack STACK` to continue"),
    ("(503)", "run `runner infra up --stack STACK` to continue"),
)


def hint_for(text: str, stack: str) -> str:
    """Return the next command for a failure, or "" if none is known."""
    if match := _LOCK.search(text):
        return _about_lock(match, stack)
    found = next((hint for fragment, hint in _HINTS if fragment in text), "")
    return found.replace("STACK", stack)


def _about_lock(match: re.Match[str], stack: str) -> str:
    """Return who holds the lock, and whether that process can still be running."""
    command = f"`pulumi cancel --stack {stack} --yes` removes the lock"
    holder = f"{match['who']} on {match['host']} (process {match['pid']}) since {match['at']}"
    if match["host"] != socket.gethostname():
        return f"it is held by {holder}: if that run is not alive any more, {command}"
    try:
        os.kill(int(match["pid"]), 0)
    except PermissionError:
        pass
    except (OSError, OverflowError):
        return f"it was held by {holder}, which is gone: {command}"
    return f"it is held by {holder}, which is alive: wait for it"


def failure(ended: Ended, verb: str, stack: str) -> EngineError:
    """Return why an engine command failed."""
    found = causes(ended.events)
    texts = [str(cause) for cause in found] or [_complaint(ended)]
    hint = next((hint for text in texts if (hint := hint_for(text, stack))), None)
    hint = hint or f"run `pulumi stack --stack {stack}` in the folder of Pulumi.yaml to see the resources"
    more = f" (and {len(texts) - 1} more)" if len(texts) > 1 else ""
    problems = texts[:_MOST]
    prefix = f"{verb} of stack {stack} failed: " if found else ""
    return EngineError(f"{prefix}{texts[0]}{more}", hint=hint, problems=problems if found else ())


def _complaint(ended: Ended) -> str:
    """Return what the engine printed but reported in no event, because it had not begun."""
    lines = [line for line in ended.complained.strip().splitlines() if not line.startswith("warning: ")]
    text = "\n".join(lines).strip().removeprefix("error: ")
    return text[-4 * LONGEST :] or f"the engine exited with status {ended.status}"
