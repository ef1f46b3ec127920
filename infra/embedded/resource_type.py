"""What `infra.embedded` knows about one type of resource, and how it compares inputs with live resources."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import httpx

from infra.embedded.rest import EmbeddedError, RequestError, Rest
from infra.naming import unmarked

Inputs = dict[str, Any]
ATTRIBUTION = {"goog-pulumi-provisioned": "true"}
"""The label that the provider adds to every resource with labels."""


@dataclass(slots=True)
class Context:
    """What all types share during one evaluation."""

    rest: Rest
    project: str
    region: str
    default_labels: dict[str, str]
    enabled: dict[str, set[str]] = field(default_factory=dict)
    """Enabled APIs by project, as listed during this evaluation."""


@dataclass(slots=True)
class Live:
    """The current state of a resource."""

    id: str
    body: dict[str, Any]
    """The resource as the API returns it."""


class TakenError(EmbeddedError):
    """A resource that this stack did not create has the name of one of its resources. It was not changed."""

    code = "taken"
    usual_hint = "`runner explain taken` says how to name the resource differently"
    details = ("problems",)

    def __init__(self, problems: list[str], hints: list[str] | None = None) -> None:
        listed = "\n  ".join(problems)
        many = f"{len(problems)} resources that this stack did not create have names of the stack:\n  {listed}"
        super().__init__(many if len(problems) > 1 else listed, hint="; ".join(dict.fromkeys(hints or [])) or None)
        self.problems = problems


class ResourceType(ABC):
    """One type. Every method raises RequestError if the emulator refuses.

    The defaults suit a type that can be created again without harm: this changes nothing that exists.
    """

    token: str
    """Pulumi's type token."""
    fixed: frozenset[str]
    """The inputs that cannot change: a different value requires a different resource."""
    labelled = False
    """Whether the provider's default labels apply."""
    title = ""
    """The field that identifies a resource's owner, if the type has one."""
    refused = True
    """Whether the service refuses to create what exists. If it would instead create a second resource or replace the
    existing one, `create` looks for the existing one first."""

    def with_labels(self, inputs: Inputs, defaults: dict[str, str]) -> Inputs:
        """Return inputs with the labels that the provider adds, if the type has labels."""
        if not self.labelled:
            return inputs
        return {**inputs, "labels": {**defaults, **ATTRIBUTION, **inputs.get("labels", {})}}

    def replaced(self, before: Inputs, inputs: Inputs) -> bool:
        """Return whether the new inputs require a different resource."""
        return any(before.get(key) != inputs.get(key) for key in self.fixed)

    def body(self, inputs: Inputs) -> dict[str, Any]:
        """Return what is sent to create the resource, and compared with what exists."""
        return {}

    def create(self, context: Context, inputs: Inputs) -> Live:
        """Create it, or adopt it if this stack created it but did not record it.

        Raises:
            TakenError: a resource that this stack did not create has the same name.
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
        """Return it, or None if it does not exist."""

    def find(self, context: Context, inputs: Inputs) -> Live | None:
        """Return the resource that exists in its place, without using the state. Changes nothing."""
        return None

    def restored(self, context: Context, inputs: Inputs, live: Live) -> Live:
        """Return what was found; restore it first if it was deleted and the service still keeps it."""
        return live

    def owned(self, inputs: Inputs, live: Live) -> bool:
        """Return whether this stack created what was found: it has the title that the program gives.

        A title names the stack. A title without a stack name is from a version that wrote none.
        """
        wanted = inputs.get(self.title)
        return bool(wanted) and live.body.get(self.title) in {wanted, unmarked(str(wanted))}

    def claim(self, context: Context, inputs: Inputs) -> str:
        """Return the resource in its place that is not of this stack, as part of a message; "" if there is none."""
        live = self.find(context, inputs)
        if live is None or self.owned(inputs, live):
            return ""
        whose = live.body.get(self.title)
        named = f": its {self.title} is {whose!r}" if whose else ""
        return f"{live.id} exists, and this stack did not create it{named}"

    @abstractmethod
    def make(self, context: Context, inputs: Inputs) -> Live:
        """Create it as the provider does: if the name is taken, the service refuses with 409."""

    def update(self, context: Context, live: Live, inputs: Inputs, changes: dict[str, Any]) -> Live:
        """Change it. `changes` are the top-level fields of the body that differ; None removes a field."""
        return self.make(context, inputs)

    @abstractmethod
    def delete(self, context: Context, id_: str, inputs: Inputs) -> bool:
        """Delete it and return True, even if it did not exist; False if it is kept, as the provider keeps it."""

    def outputs(self, inputs: Inputs, live: Live) -> dict[str, Any]:
        """Return the properties that the program may read, in Pulumi's spelling."""
        return inputs


def differences(wanted: dict[str, Any], live: dict[str, Any], last: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the top-level fields of `wanted` with another value in `live`, and None for those that only `last` had.

    The service chooses fields that the program never set, so objects are compared field by field, and only in
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
    """Return the entries of an object that were wanted before, are no longer wanted, and still exist."""
    if not (isinstance(wanted, dict) and isinstance(last, dict) and isinstance(live, dict)):
        return {}
    return {name: None for name in last if name not in wanted and name in live}


def without_none(value: Any) -> Any:
    """Return an object without the entries to remove: for requests that replace the whole object."""
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
        # In Google's JSON, an absent flag is false.
        return bool(wanted) == bool(live)
    if isinstance(wanted, int | float) and isinstance(live, str):
        return str(wanted) == live
    if isinstance(live, int | float) and isinstance(wanted, str):
        return wanted == str(live)
    if wanted in (0, "") and live is None:
        return True
    return bool(wanted == live)
