"""What `infra.embedded` knows of one type of resource, and how inputs and live resources are compared."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import httpx

from infra.embedded.rest import EmbeddedError, RequestError, Rest
from infra.naming import unmarked

Inputs = dict[str, Any]
ATTRIBUTION = {"goog-pulumi-provisioned": "true"}
"""The label that the provider puts on everything that has labels."""


@dataclass(slots=True)
class Context:
    """What the types share during one evaluation."""

    rest: Rest
    project: str
    region: str
    default_labels: dict[str, str]
    enabled: dict[str, set[str]] = field(default_factory=dict)
    """Enabled APIs by project, as listed during this evaluation."""


@dataclass(slots=True)
class Live:
    """A resource as it is now."""

    id: str
    body: dict[str, Any]
    """As the API shows it."""


class TakenError(EmbeddedError):
    """Something has a resource's place that this stack did not create. It was not changed."""

    code = "taken"
    usual_hint = "`runner explain taken` says how to name the resource differently"
    details = ("problems",)

    def __init__(self, problems: list[str], hints: list[str] | None = None) -> None:
        listed = "\n  ".join(problems)
        many = f"{len(problems)} resources that this stack did not create have names of the stack:\n  {listed}"
        super().__init__(many if len(problems) > 1 else listed, hint="; ".join(dict.fromkeys(hints or [])) or None)
        self.problems = problems


class ResourceType(ABC):
    """One type. Every method raises RequestError when the emulator refuses.

    What stands here is right for a type that is made again without harm: making it changes nothing that is there.
    """

    token: str
    """Pulumi's type token."""
    fixed: frozenset[str]
    """The inputs that cannot change: another value means another resource."""
    labelled = False
    """Whether the provider's default labels apply."""
    title = ""
    """The field that tells whose a resource is, where a type has one."""
    refused = True
    """Whether the service refuses to make what is there. Where it would make a second one, or replace what is there,
    it is looked for first."""

    def with_labels(self, inputs: Inputs, defaults: dict[str, str]) -> Inputs:
        """Return inputs with the labels that the provider adds, where a type has labels."""
        if not self.labelled:
            return inputs
        return {**inputs, "labels": {**defaults, **ATTRIBUTION, **inputs.get("labels", {})}}

    def replaced(self, before: Inputs, inputs: Inputs) -> bool:
        """Tell whether other inputs mean another resource."""
        return any(before.get(key) != inputs.get(key) for key in self.fixed)

    def body(self, inputs: Inputs) -> dict[str, Any]:
        """Return what is sent to create the resource, and compared with what is there."""
        return {}

    def create(self, context: Context, inputs: Inputs) -> Live:
        """Make it, or take over what this stack made and lost.

        Raises:
            TakenError: something is in its place that this stack did not create.
        """
        if self.refused:
            try:
                return self.make(context, inputs)
            except RequestError as error:
                if error.http != httpx.codes.CONFLICT:
                    raise
        if claim := self.claim(context, inputs):
            raise TakenError([claim])
        found = self.find(context, inputs)
        return self.restored(context, inputs, found) if found else self.make(context, inputs)

    @abstractmethod
    def read(self, context: Context, id_: str, inputs: Inputs) -> Live | None:
        """Return it, None when it is gone."""

    def find(self, context: Context, inputs: Inputs) -> Live | None:
        """Return what is there in its place without the state's knowledge, whoever made it. Changes nothing."""
        return None

    def restored(self, context: Context, inputs: Inputs, live: Live) -> Live:
        """Return what was found, brought back where it was deleted and the service still keeps it."""
        return live

    def owned(self, inputs: Inputs, live: Live) -> bool:
        """Tell whether what was found was made by this stack: it has the title that the program gives.

        A title names the stack. One that names none is from a version that gave no names.
        """
        wanted = inputs.get(self.title)
        return bool(wanted) and live.body.get(self.title) in {wanted, unmarked(str(wanted))}

    def claim(self, context: Context, inputs: Inputs) -> str:
        """Return what is in its place and not of this stack, as part of a message; "" where nothing is."""
        live = self.find(context, inputs)
        if live is None or self.owned(inputs, live):
            return ""
        whose = live.body.get(self.title)
        named = f": its {self.title} is {whose!r}" if whose else ""
        return f"{live.id} exists, and this stack did not create it{named}"

    @abstractmethod
    def make(self, context: Context, inputs: Inputs) -> Live:
        """Make it as the provider does: a name that is taken is refused with 409."""

    def update(self, context: Context, live: Live, inputs: Inputs, changes: dict[str, Any]) -> Live:
        """Change it. `changes` are the top-level fields of the body that differ; None takes a field away."""
        return self.make(context, inputs)

    @abstractmethod
    def delete(self, context: Context, id_: str, inputs: Inputs) -> bool:
        """Delete it and return True, also when it was gone; False when it is left there, as the provider does."""

    def outputs(self, inputs: Inputs, live: Live) -> dict[str, Any]:
        """Return the properties that the program may read, in Pulumi's spelling."""
        return inputs


def differences(wanted: dict[str, Any], live: dict[str, Any], last: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the top-level fields of `wanted` that `live` has otherwise, None for what only `last` had.

    A field that the program never set is the service's to choose, so objects are compared field by field and only in
    the fields that are wanted.
    """
    last = last or {}
    changes: dict[str, Any] = {}
    for key, value in wanted.items():
        there = live.get(key)
        gone = _dropped(value, last.get(key), there)
        if gone or not _matches(value, there):
            changes[key] = {**value, **gone} if gone else value
    for key in last:
        if key not in wanted and live.get(key) not in (None, {}, [], ""):
            changes[key] = None
    return changes


def _dropped(wanted: Any, last: Any, live: Any) -> dict[str, None]:
    """Return the entries of an object that were wanted before, are not now, and are still there."""
    if not (isinstance(wanted, dict) and isinstance(last, dict) and isinstance(live, dict)):
        return {}
    return {name: None for name in last if name not in wanted and name in live}


def without_none(value: Any) -> Any:
    """Return an object without the entries that are to go: for requests that replace it as a whole."""
    if isinstance(value, dict):
        return {name: without_none(item) for name, item in value.items() if item is not None}
    return value


def _matches(wanted: Any, live: Any) -> bool:
    if isinstance(wanted, dict):
        if not wanted and live is None:
            return True
        return isinstance(live, dict) and all(_matches(value, live.get(key)) for key, value in wanted.items())
    if isinstance(wanted, list):
        if not wanted and live is None:
            return True
        same_length = isinstance(live, list) and len(wanted) == len(live)
        return same_length and all(_matches(one, other) for one, other in zip(wanted, live, strict=True))
    if isinstance(wanted, bool) or isinstance(live, bool):
        # An absent flag is a false one in Google's JSON.
        return bool(wanted) == bool(live)
    if isinstance(wanted, int | float) and isinstance(live, str):
        return str(wanted) == live
    if isinstance(live, int | float) and isinstance(wanted, str):
        return wanted == str(live)
    if wanted in (0, "") and live is None:
        return True
    return bool(wanted == live)
