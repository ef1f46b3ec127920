"""Google answers "done" before every part of it knows: which errors are worth another attempt, and when.

A service agent that was just made is refused as a member for a while, and an API that was just enabled answers that it
is not. Pulumi calls the hook when creating a resource failed. Plain "permission denied" is never retried: it is
usually true.
"""

from __future__ import annotations

import asyncio
import re

import pulumi

MAX_ATTEMPTS = 8
"""Five seconds doubling to a minute: about five minutes in all."""

TRANSIENT = re.compile(
    r"Service account \S+ does not exist"
    r"|has not been used in project \S+ before or it is disabled"
    r"|SERVICE_DISABLED"
    r"|Error 404.*serviceAccounts",
    re.DOTALL,
)


def delay_before(errors: list[str]) -> float | None:
    """Return the seconds to wait before the next attempt, or None to give up. `errors` holds the newest first."""
    if not errors or len(errors) >= MAX_ATTEMPTS or not TRANSIENT.search(errors[0]):
        return None
    return min(60.0, 5.0 * 2.0 ** (len(errors) - 1))


async def _retry(arguments: pulumi.ErrorHookArgs) -> bool:
    delay = delay_before(arguments.errors)
    if delay is None:
        return False
    await asyncio.sleep(delay)
    return True


def retry_transient() -> pulumi.ResourceHookBinding:
    """Register the hook (once a program) and return the binding for `ResourceOptions.hooks`."""
    return pulumi.ResourceHookBinding(on_error=[pulumi.ErrorHook("google-eventual-consistency", _retry)])
