"""The stack's state at the start of the program: resources that the last update left, and its outputs.

The engine reads its own state for the program (`readStackResourceOutputs`). Plain `pulumi up` and `runner infra up`
therefore get the same data; the apply without an engine reads it from its state file.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pulumi

from infra.plain_values import plain
from infra.urns import name_of, type_of

READ = "pulumi:pulumi:readStackResourceOutputs"
"""The engine's own function for this."""
_BEING_WRITTEN = "failed to load checkpoint"
"""The engine's error if it reads a state in a folder while it also writes it, which it does in place."""
_ATTEMPTS = 50
_PAUSE_SECONDS = 0.1
_STACK = "pulumi:pulumi:Stack"


@dataclass(frozen=True, slots=True)
class Recorded:
    """The earlier state."""

    resources: Mapping[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)
    """Outputs by type token and name."""
    outputs: Mapping[str, Any] = field(default_factory=dict)
    """The stack's outputs."""
    urns: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """Pulumi's full names (URNs) by type token and name."""

    def of_type(self, token: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield name and outputs of the resources of a type."""
        return ((name, outputs) for (type_, name), outputs in self.resources.items() if type_ == token)

    def aliases(self, token: str, name: str, /, **same: Any) -> list[pulumi.Alias]:
        """Return aliases with the name in the state of the resource now called `name`; [] if the name is the same.

        Args:
            token: type of the resource.
            name: its name in the program.
            same: outputs that distinguish it from all others of its type.
        """
        if (token, name) in self.resources:
            return []
        for old, outputs in self.of_type(token):
            if all((outputs.get(key) or None) == (value or None) for key, value in same.items()):
                return [pulumi.Alias(name=old)]
        return []


def read() -> Recorded:
    """Return what the state holds; nothing before the first update."""
    stack = f"{pulumi.get_organization()}/{pulumi.get_project()}/{pulumi.get_stack()}"
    for left in reversed(range(_ATTEMPTS)):
        try:
            answer = pulumi.runtime.invoke(READ, {"stackName": stack}).value or {}
        except Exception as error:
            if not left or _BEING_WRITTEN not in str(error):
                raise
            time.sleep(_PAUSE_SECONDS)
        else:
            break
    return parse(plain(answer.get("outputs") or {}))


def parse(resources: Mapping[str, Any]) -> Recorded:
    """Parse a state in the engine's form: `{URN: {"type": …, "outputs": …}}`."""
    outputs: dict[str, Any] = {}
    found: dict[tuple[str, str], Mapping[str, Any]] = {}
    urns: dict[tuple[str, str], str] = {}
    for urn, item in resources.items():
        if type_of(urn) == _STACK:
            outputs = dict(item.get("outputs") or {})
        else:
            found[(type_of(urn), name_of(urn))] = item.get("outputs") or {}
            urns[(type_of(urn), name_of(urn))] = urn
    return Recorded(found, outputs, urns)
