"""How long a model may take to load: a process that is stuck in it, in a disk perhaps, ends and says why."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

BASE_SECONDS = 600.0
"""For what takes its time whatever the size: libraries, tokenizers, building a stand-in."""
BYTES_A_SECOND = 20e6
"""A slow network disk; a slower one is stuck."""
EXIT_CODE = 1


def seconds_for(directory: str | None) -> float:
    """Return how long the weights of a folder may take; of a stand-in, which is small, None."""
    files = Path(directory).glob("*.safetensors") if directory else ()
    return BASE_SECONDS + sum(file.stat().st_size for file in files) / BYTES_A_SECOND


@contextlib.contextmanager
def loading_within(seconds: float, give_up: Callable[[str], None]) -> Iterator[None]:
    """End this process if the body takes longer.

    A thread watches, since what hangs in a system call cannot be interrupted.

    Args:
        seconds: the limit.
        give_up: told why, before the process ends.
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
