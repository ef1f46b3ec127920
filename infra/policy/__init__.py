"""What no stack may be, whoever writes it: rules as plain functions, which the engine can run as a policy pack.

`pulumi preview --policy-pack infra/policy` runs them, in an environment of their own; `violations` runs them
on a graph that was evaluated here, without an engine.
"""

from __future__ import annotations

from infra.policy.resources import PolicyResource, of_evaluation
from infra.policy.rules import RULES, Rule, Violation, violations

__all__ = ["ENVIRONMENT_HINT", "RULES", "PolicyResource", "Rule", "Violation", "of_evaluation", "violations"]

ENVIRONMENT_HINT = (
    "`python3 -m venv infra/policy/.venv` and "
    "`infra/policy/.venv/bin/pip install --require-hashes -r infra/policy/requirements.txt`"
)
"""How the pack's own environment is made, which the engine starts it in (`virtualenv` of PulumiPolicy.yaml)."""
