"""A line in the log for every request: what was asked, how it was answered, how long that took."""

from __future__ import annotations

import logging
import time
from urllib.parse import quote

from starlette.types import Scope

logger = logging.getLogger(__name__)
_QUIET = ("/_emulator/",)
"""What only this tool asks, again and again."""


def note(scope: Scope, status: int, started: float) -> None:
    """Log a request that began at `started`, on `time.monotonic`, and is now answered.

    The path is logged without its query, which may hold a token or a signature.
    """
    path: str = scope["path"]
    if logger.isEnabledFor(logging.INFO) and not path.startswith(_QUIET):
        milliseconds = 1000 * (time.monotonic() - started)
        # Control characters in a path must not write lines of their own.
        logger.info("%s %s %d %.0f ms", scope["method"], quote(path, "/:@$*+,;=!~()"), status, milliseconds)
