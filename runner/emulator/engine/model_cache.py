"""Folders of weights that are built once and then shared by all processes of the user."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path


def build_once(cache: Path, name: str, build: Callable[[Path], None]) -> Path:
    """Return `cache/name`; if it does not exist, first call `build` with an empty folder.

    Two processes never build at the same time, and none sees an incomplete folder: it gets its name only when it is
    complete.
    """
    target = cache / name
    if target.is_dir():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # released by the kernel if this process dies
        if target.is_dir():
            return target
        for abandoned in cache.glob(f"{name}.building-*"):
            shutil.rmtree(abandoned, ignore_errors=True)
        folder = cache / f"{name}.building-{os.getpid()}"
        folder.mkdir()
        try:
            build(folder)
            folder.rename(target)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return target
