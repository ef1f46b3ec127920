"""What went wrong, from the engine's own events: the resource, the cause in one sentence, and the next command."""

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
    """The engine ran and failed. `problems` has every cause, each with its resource."""

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
    """One failure."""

    urn: str
    """URN of the resource, "" if no resource caused it."""
    text: str

    def __str__(self) -> str:
        return f"{key_of(self.urn)}: {self.text}" if self.urn else self.text


def causes(events: list[Event]) -> list[Cause]:
    """Return every failure that the events tell of, broken mandatory rules included, each once."""
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
    ("incorrect passphrase", "PULUMI_CONFIG_PASSPHRASE is not the one that the stack was made with"),
    (
        "passphrase must be set",
        "set PULUMI_CONFIG_PASSPHRASE, or make the stack with a key, as `runner infra bootstrap --stack STACK` says",
    ),
    ("does not satisfy the version range", f"update the engine: {INSTALL}"),
    ("no language plugin", f"the engine alone is not enough; install all of Pulumi: {INSTALL}"),
    ("no resource plugin", "`pulumi install` in the folder of Pulumi.yaml fetches the provider"),
    ("unable to open state directory", "make that folder, or have PULUMI_BACKEND_URL name another"),
    ("PULUMI_ACCESS_TOKEN must be set", "`pulumi login`, or PULUMI_BACKEND_URL=gs://BUCKET"),
    ("could not find default credentials", "`gcloud auth application-default login`"),
    ("bucket doesn't exist", "`runner infra bootstrap --stack STACK` makes it"),
    (
        # Which the first request of all needs: no `up` gets as far as to enable it.
        "Cloud Resource Manager API",
        "`runner infra bootstrap --stack STACK` enables it; the API needs a few minutes after that",
    ),
    (
        "has not been used in project",
        "the API needs a few minutes after it was enabled: `runner infra up --stack STACK`",
    ),
    ("deployed model", "`runner endpoints undeploy ENDPOINT` takes its models down; `runner endpoints ls` names them"),
    ("not empty", "delete the objects, or set open-model-tuning:forceDestroy to true and `up` before this"),
    (
        "lready exist",
        "`runner infra up --stack STACK` again: it takes over what this stack made, and says what to do with the rest",
    ),
    ("existing object already found", "`runner infra up --stack STACK` again: it takes over what is in the perimeter"),
    ("lready own", "`runner infra up --stack STACK` again: it takes over what this stack made"),
    ("(403)", "ask for the role that this needs: docs/iam.md lists those of the deploying account"),
    ("rule ", "change the setting that the rule names; `runner infra doctor --stack STACK` checks all rules offline"),
    ("(429)", "wait a minute, then `runner infra up --stack STACK` goes on where it stopped"),
    ("(500)", "`runner infra up --stack STACK` goes on where it stopped"),
    ("(503)", "`runner infra up --stack STACK` goes on where it stopped"),
)


def hint_for(text: str, stack: str) -> str:
    """Return the next command for a failure, "" where none is known."""
    if match := _LOCK.search(text):
        return _about_lock(match, stack)
    found = next((hint for fragment, hint in _HINTS if fragment in text), "")
    return found.replace("STACK", stack)


def _about_lock(match: re.Match[str], stack: str) -> str:
    """Say who holds the lock, and whether that can still be true."""
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
    """Return what a command of the engine failed for."""
    found = causes(ended.events)
    texts = [str(cause) for cause in found] or [_complaint(ended)]
    hint = next((hint for text in texts if (hint := hint_for(text, stack))), None)
    hint = hint or f"`pulumi stack --stack {stack}` in the folder of Pulumi.yaml shows what is there"
    more = f" (and {len(texts) - 1} more)" if len(texts) > 1 else ""
    problems = texts[:_MOST]
    prefix = f"{verb} of stack {stack} failed: " if found else ""
    return EngineError(f"{prefix}{texts[0]}{more}", hint=hint, problems=problems if found else ())


def _complaint(ended: Ended) -> str:
    """Return what the engine said where it made no event of it: before it had begun."""
    lines = [line for line in ended.complained.strip().splitlines() if not line.startswith("warning: ")]
    text = "\n".join(lines).strip().removeprefix("error: ")
    return text[-4 * LONGEST :] or f"the engine exited with status {ended.status}"
