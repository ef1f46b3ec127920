"""The maximum time to load a model: a process that hangs, for example because of a disk, ends with an error."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

BASE_SECONDS = 600.0
"""Time that does not depend on the size: libraries, tokenizers, building a stand-in."""
BYTES_A_SECOND = 20e6
"""The rate of a slow network disk; a slower one counts as hanging."""
EXIT_CODE = 1


def seconds_for(directory: str | None) -> float:
    """Return the maximum time to load the weights in a folder; None for a stand-in, which is small."""
    files = Path(directory).glob("*.safetensors") if directory else ()
    return BASE_SECONDS + sum(file.stat().st_size for file in files) / BYTES_A_SECOND


@contextlib.contextmanager
def loading_within(seconds: float, give_up: Callable[[str], None]) -> Iterator[None]:
    """End this process if the body takes longer.

    A thread monitors the time, because a hanging system call cannot be interrupted.

    Args:
        seconds: the limit.
        give_up: called with the reason before the process ends.
    """

    def expire() -> None:
        give_up(
            f"The model was not loaded within {seconds:.0f} s, more than its size accounts for; the disk that holds "
            "the weights may hang: read one of its files, then start the job again."
        )
        os._exit(EXIT_CODE)

    timer = threading.Timer(seconds, expire)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
