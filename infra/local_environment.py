"""Makes a stack in this machine's emulator known to its commands, as `runner emulator provision` does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runner.environment import state_directory
from runner.local_files import replace


def announce(document: Mapping[str, Any]) -> Path | None:
    """Write an environment document to the place where commands look for it by default.

    Nothing is written unless the stack is in the emulator that runs from this machine's state directory.

    Returns:
        The file, or None.

    Raises:
        DiskError, ConfigurationError: it cannot be written.
    """
    folder = state_directory() / "emulator"
    try:
        running = json.loads((folder / "server.json").read_bytes())["url"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    address = (document.get("apiEndpoints") or {}).get("vertex", "")
    if not address or str(running).rstrip("/") != str(address).rstrip("/"):
        return None
    file = folder / "environment.json"
    replace(file, json.dumps(document, indent=2, sort_keys=True) + "\n")
    return file
