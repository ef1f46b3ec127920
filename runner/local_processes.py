"""Python processes of this program's own, which run nothing that lies in the directory they are started in."""

from __future__ import annotations

import sys


def module_command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module of this installation with this interpreter.

    `-P` keeps the current directory off the module path: it may be anyone's, and hold a `json.py`.
    """
    return [interpreter(), "-P", "-m", module, *arguments]


def script_command(script: str, *arguments: str) -> list[str]:
    """Return the command that runs Python code with this interpreter, the current directory off the module path."""
    return [interpreter(), "-P", "-c", script, *arguments]


def interpreter() -> str:
    """Return the interpreter that runs this."""
    return sys.executable
