"""A line in the log for every request: what was asked, how it was answered, how long that took."""

from __future__ import annotations

import logging
import time
from urllib.parse import quote

from starlette.types import Message, Scope, Send

logger = logging.getLogger(__name__)
_QUIET = ("/_emulator/",)
"""What only this tool asks, again and again."""


def logged(scope: Scope, send: Send) -> Send:
    """Return what sends an answer and logs it once its status is known.

    The path is logged without its query, which may hold a token or a signature.
    """
    started = time.monotonic()
    path = str(scope["path"])

    async def logging_send(message: Message) -> None:
        asked = message["type"] == "http.response.start" and not path.startswith(_QUIET)
        if asked and logger.isEnabledFor(logging.INFO):
            milliseconds = 1000 * (time.monotonic() - started)
            # Control characters in a path must not write lines of their own.
            logger.info(
                "%s %s %d %.0f ms", scope["method"], quote(path, "/:@$*+,;=!~()"), message["status"], milliseconds
            )
        await send(message)

    return logging_send
