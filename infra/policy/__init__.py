"""What no stack may contain, regardless of its author: rules as plain functions, which the engine can run as a pack.

`pulumi preview --policy-pack infra/policy` runs them in a separate environment; `violations` runs them
on a graph that was evaluated in this process, without an engine.
"""

from __future__ import annotations

from infra.policy.resources import PolicyResource, of_evaluation
from infra.policy.rules import RULES, Rule, Violation, violations

__all__ = ["ENVIRONMENT_HINT", "RULES", "PolicyResource", "Rule", "Violation", "of_evaluation", "violations"]

ENVIRONMENT_HINT = (
    "`python3 -m venv infra/policy/.venv` and "
    "`infra/policy/.venv/bin/pip install --require-hashes -r infra/policy/requirements.txt`"
)
"""How to create the pack's environment, in which the engine starts it (`virtualenv` of PulumiPolicy.yaml)."""
