"""A resource in the form that the rules read, regardless of its source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from infra.evaluation import Evaluation


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyResource:
    """One resource. `props` use Pulumi's spelling (`publicAccessPrevention`).

    The engine's properties are not copied: in a preview, some are unknown, and access to one of those ends the rule,
    which the engine reports. Rules that do not access them continue.
    """

    type: str
    name: str
    props: Mapping[str, Any] = field(default_factory=dict)
    protect: bool = False
    urn: str = ""

    def is_a(self, *types: str) -> bool:
        """Return whether the resource's type token ends like this (`:Bucket`)."""
        return self.type.endswith(types)


def of_evaluation(evaluation: Evaluation) -> list[PolicyResource]:
    """Return the resources of a graph from an evaluation without the engine, without components and providers."""
    return [
        PolicyResource(type=item.type, name=item.name, props=item.inputs, protect=item.protect, urn=item.urn)
        for item in evaluation.resources
        if item.custom and not item.type.startswith("pulumi:")
    ]
