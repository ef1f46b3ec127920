"""The location of this tool's state on this machine."""

from __future__ import annotations

import os
from pathlib import Path

from runner.json_text import parsed


def state_directory() -> Path:
    """Return the state directory: `RUNNER_STATE_DIR`, or the platform's default for this user."""
    given = os.environ.get("RUNNER_STATE_DIR")
    if given:
        return Path(given)
    import platformdirs

    return platformdirs.user_state_path("open-model-tuning")


def emulator_directory() -> Path:
    """Return the state directory of this user's emulator."""
    return state_directory() / "emulator"


def emulator_document() -> Path:
    """Return the path of the environment document of this user's emulator, which `provision` writes."""
    return emulator_directory() / "environment.json"


def emulator_runs() -> bool:
    """Return whether this user's emulator runs, only from its process; a closer check is slow to import."""
    try:
        pid = parsed((emulator_directory() / "server.json").read_bytes()).get("pid")
    except (OSError, ValueError, AttributeError):
        return False
    if not isinstance(pid, int) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        pass  # running, and another user's
    except OSError:
        return False
    return True
