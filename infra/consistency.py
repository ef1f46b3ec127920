"""Decides which errors to retry, and when: Google reports success before all its services know of a change.

For a while, a service agent that was just created is refused as a member, and an API that was just enabled is reported
as disabled. Pulumi calls the hook when an operation on any resource of the stack failed. Plain "permission denied" is
never retried, because it is usually true. Permanent errors are not retried either: a policy that names a deleted
account stays refused.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from typing import Any

import pulumi
from pulumi.runtime.invoke import invoke_async

from infra.answers import sentence

MAX_ATTEMPTS = 8
"""From five seconds, doubling up to a minute: about four and a half minutes in total."""

_MISSING_MEMBER = re.compile(r"[Ss]ervice account (?P<account>\S+) does not exist")
TRANSIENT = re.compile(
    r"has not been used in project \S+ before or it is disabled|SERVICE_DISABLED|Error 404.*serviceAccounts", re.DOTALL
)


def delay_before(errors: list[str], member: str | None = None) -> float | None:
    """Return the seconds to wait before the next attempt, or None to give up.

    Args:
        errors: the error messages, newest first.
        member: the principal that the resource grants something; None if it is no grant or the principal is unknown.
    """
    if not errors or len(errors) >= MAX_ATTEMPTS or not _is_transient(errors[0], member):
        return None
    return min(60.0, 5.0 * 2.0 ** (len(errors) - 1))


def minutes_waited() -> float:
    """Return how long all attempts take together, in minutes."""
    return sum(delay_before(["SERVICE_DISABLED"] * count) or 0.0 for count in range(1, MAX_ATTEMPTS)) / 60


def _is_transient(error: str, member: str | None) -> bool:
    missing = _MISSING_MEMBER.search(error)
    if missing is None:
        return bool(TRANSIENT.search(error))
    # The policy may name other accounts that were deleted: waiting does not restore them.
    return member is None or missing["account"].rstrip(".,") in member


TAKEN = re.compile(r"lready exist|lready own|\b409\b|existing object already found")
"""Matches errors about a resource that exists already."""
OnTaken = Callable[[str, dict[str, Any], str], str]
"""Returns what to run then. Arguments: URN, inputs and the name of the component ("" if there is none)."""


async def _retry(arguments: pulumi.ErrorHookArgs) -> bool:
    inputs: Any = arguments.new_inputs or arguments.old_inputs or {}
    member = inputs.get("member")
    member = member if isinstance(member, str) else None
    delay = delay_before(arguments.errors, member)
    if delay is None:
        if arguments.errors and len(arguments.errors) >= MAX_ATTEMPTS and _is_transient(arguments.errors[0], member):
            pulumi.log.warn(
                f"{arguments.name}: given up after {minutes_waited():.0f} minutes; "
                "Google may need longer: run `up` again"
            )
        return False
    await asyncio.sleep(delay)
    return True


def retry_transient(on_taken: OnTaken | None = None) -> pulumi.ResourceTransformation:
    """Register the hook (once per program) and return what adds it to every resource under a component."""
    parents: dict[tuple[str, str], str] = {}

    async def called(arguments: pulumi.ErrorHookArgs) -> bool:
        if on_taken and arguments.errors and TAKEN.search(arguments.errors[0]):
            inputs = dict(arguments.new_inputs or {})
            if told := on_taken(arguments.urn, inputs, parents.get((arguments.type, arguments.name), "")):
                pulumi.log.warn(told)
        return await _retry(arguments)

    hooks = pulumi.ResourceHookBinding(on_error=[pulumi.ErrorHook("google-eventual-consistency", called)])

    def bind(args: pulumi.ResourceTransformationArgs) -> pulumi.ResourceTransformationResult | None:
        if not args.type_.startswith("gcp:"):
            return None
        parents[(args.type_, args.name)] = str(getattr(args.opts.parent, "_name", ""))
        options = pulumi.ResourceOptions.merge(args.opts, pulumi.ResourceOptions(hooks=hooks))
        return pulumi.ResourceTransformationResult(props=args.props, opts=options)

    return bind


def ask(
    source: str, arguments: dict[str, str], parent: pulumi.Resource, after: Sequence[pulumi.CustomResource]
) -> pulumi.Output[dict[str, Any]]:
    """Return the response of a data source, with the same retries as resources, which have a hook for this.

    Args:
        source: token of the data source.
        arguments: its arguments, with the provider's names.
        parent: the component that calls it.
        after: resources that must exist before the call.

    Raises:
        pulumi.RunError: in the output: Google's message, without the program's tracebacks.
    """

    async def answered(_: Any) -> dict[str, Any]:
        errors: list[str] = []
        while True:
            try:
                found = await invoke_async(source, {**arguments}, pulumi.InvokeOptions(parent=parent))
            except Exception as error:  # the SDK has no class for a provider's response
                errors.insert(0, str(error))
            else:
                return dict(found)
            delay = delay_before(errors)
            if delay is None:
                raise pulumi.RunError(sentence(errors[0]))
            await asyncio.sleep(delay)

    return pulumi.Output.all(*(item.id for item in after)).apply(answered)
