"""Google answers "done" before every part of it knows: which errors are worth another attempt, and when.

A service agent that was just made is refused as a member for a while, and an API that was just enabled answers that it
is not. Pulumi calls the hook when an operation on any resource of the stack failed. Plain "permission denied" is never
retried: it is usually true. Nor is what cannot become true: a policy that names a deleted account stays refused.
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
"""Five seconds doubling to a minute: about four and a half minutes in all."""

_MISSING_MEMBER = re.compile(r"[Ss]ervice account (?P<account>\S+) does not exist")
TRANSIENT = re.compile(
    r"has not been used in project \S+ before or it is disabled|SERVICE_DISABLED|Error 404.*serviceAccounts", re.DOTALL
)


def delay_before(errors: list[str], member: str | None = None) -> float | None:
    """Return the seconds to wait before the next attempt, or None to give up.

    Args:
        errors: what was answered, newest first.
        member: whom the resource grants something; None where it is no grant, or not known.
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
    # The policy may name others, who were deleted: waiting does not bring them back.
    return member is None or missing["account"].rstrip(".,") in member


TAKEN = re.compile(r"lready exist|lready own|\b409\b|existing object already found")
"""What is said where something of that name is there already."""
OnTaken = Callable[[str, dict[str, Any], str], str]
"""Returns what to type then: called with URN, inputs and the name of the component, "" for none."""


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
    """Register the hook (once a program) and return what gives it to every resource under a component."""
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
    """Return what a data source answers; it is asked again where a resource would be tried again, which has a hook.

    Args:
        source: token of the data source.
        arguments: what it is asked, by the provider's names.
        parent: component that asks.
        after: what has to be there before.

    Raises:
        pulumi.RunError: in the output: what Google says, without the traces of the program.
    """

    async def answered(_: Any) -> dict[str, Any]:
        errors: list[str] = []
        while True:
            try:
                found = await invoke_async(source, {**arguments}, pulumi.InvokeOptions(parent=parent))
            except Exception as error:  # the SDK has no class for what a provider answers
                errors.insert(0, str(error))
            else:
                return dict(found)
            delay = delay_before(errors)
            if delay is None:
                raise pulumi.RunError(sentence(errors[0]))
            await asyncio.sleep(delay)

    return pulumi.Output.all(*(item.id for item in after)).apply(answered)
