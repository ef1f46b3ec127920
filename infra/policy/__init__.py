"""What no stack may be, whoever writes it: rules as plain functions, which the engine can run as a policy pack.

`pulumi preview --policy-pack infra/policy` runs them (it needs the package pulumi-policy); `violations` runs them
on a graph that was evaluated here, without an engine.
"""

from __future__ import annotations

from infra.policy.resources import PolicyResource, of_evaluation
from infra.policy.rules import RULES, Rule, Violation, violations

__all__ = ["RULES", "PolicyResource", "Rule", "Violation", "of_evaluation", "violations"]
