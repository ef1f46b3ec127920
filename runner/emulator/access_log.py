"""A log line for each request: method and path, status, and duration."""

from __future__ import annotations

import logging
import time
from urllib.parse import quote

from starlette.types import Scope

logger = logging.getLogger(__name__)
_QUIET = ("/_emulator/",)
"""Paths that this tool itself requests repeatedly."""


def note(scope: Scope, status: int, started: float) -> None:
    """Log a request that began at `started`, on `time.monotonic`, and has been answered.

    The path is logged without its query, which may contain a token or a signature.
    """
    path: str = scope["path"]
    if logger.isEnabledFor(logging.INFO) and not path.startswith(_QUIET):
        milliseconds = 1000 * (time.monotonic() - started)
        # Control characters in a path must not start new lines.
        logger.info("%s %s %d %.0f ms", scope["method"], quote(path, "/:@$*+,;=!~()"), status, milliseconds)
