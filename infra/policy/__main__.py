"""The policy pack: `pulumi preview --policy-pack infra/policy`.

The package pulumi-policy requires an older protobuf than Google's clients, so the pack has a separate environment,
`infra/policy/.venv`. Everything that is imported here may only need the standard library.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_CHECKOUT = str(Path(__file__).resolve().parents[2])
if _CHECKOUT not in sys.path:
    # The engine runs this file by its path.
    sys.path.insert(0, _CHECKOUT)

from infra.policy import ENVIRONMENT_HINT  # noqa: E402 - needs the path above
from infra.policy.resources import PolicyResource  # noqa: E402
from infra.policy.rules import RULES, Rule  # noqa: E402


def _resource(args: Any) -> PolicyResource:
    opts = getattr(args, "opts", None)
    return PolicyResource(
        type=args.resource_type,
        name=args.name,
        props=args.props,
        protect=bool(getattr(opts, "protect", False)),
        urn=args.urn,
    )


@contextmanager
def _until_known() -> Iterator[None]:
    """End a rule without a violation at a value that a preview does not know: `up` and the offline rules know it."""
    try:
        yield
    except Exception as error:
        # The package's own class; its location differs between versions.
        if type(error).__name__ != "UnknownValueError":
            raise


def _policy(rule: Rule, package: Any) -> Any:
    level = package.EnforcementLevel(rule.level)
    check = rule.resource
    if check is not None:

        def validate(args: Any, report: Any) -> None:
            with _until_known():
                for text in check(_resource(args)):
                    report(text)

        return package.ResourceValidationPolicy(
            name=rule.name, description=rule.description, enforcement_level=level, validate=validate
        )

    def validate_stack(args: Any, report: Any) -> None:
        found = [_resource(item) for item in args.resources if not item.resource_type.startswith("pulumi:")]
        urns = {item.name: item.urn for item in found}
        with _until_known():
            for name, text in rule.stack(found) if rule.stack else ():
                report(f"{name}: {text}", urns.get(name))

    return package.StackValidationPolicy(
        name=rule.name, description=rule.description, enforcement_level=level, validate=validate_stack
    )


def main() -> None:
    """Serve the pack to the engine that started this process."""
    try:
        import pulumi_policy  # type: ignore[import-not-found]
    except ImportError:
        raise SystemExit(f"the policy pack needs the package pulumi-policy: {ENVIRONMENT_HINT}") from None
    pulumi_policy.PolicyPack(
        name="open-model-tuning",
        enforcement_level=pulumi_policy.EnforcementLevel.MANDATORY,
        policies=[_policy(rule, pulumi_policy) for rule in RULES],
    )


if __name__ == "__main__":
    main()
