"""The event loop that Pulumi's test runtime takes for granted."""

from __future__ import annotations

import asyncio


def ensure() -> None:
    """Give this thread an event loop if it has none: whoever ran `asyncio.run` before has left it without."""
    try:
        asyncio.get_event_loop_policy().get_event_loop()
    except RuntimeError:
        asyncio.set_event_loop(asyncio.new_event_loop())
