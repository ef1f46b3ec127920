"""How this package was installed, and the matching command to add an extra."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

from runner.errors import EngineMissingError
from runner.json_text import parsed
from runner.local_processes import interpreter

NAME = "open-model-tuning"


def require(what: str, extra: str, **packages: str) -> None:
    """Return normally if the packages of an extra are installed.

    Args:
        what: the feature that needs them, such as `reading Parquet`.
        extra: the extra that contains them.
        packages: maps modules to the names of their packages.

    Raises:
        EngineMissingError: a package is not installed.
    """
    from importlib import util

    missing = [package for module, package in packages.items() if util.find_spec(module) is None]
    if missing:
        raise EngineMissingError(f"{what} needs {' and '.join(missing)}", hint=install_hint(extra))


def install_hint(*extras: str) -> str:
    """Return the command, in backquotes, that installs extras into the current environment.

    It works for a clone, a wheel file, an index, `pipx` and `uv tool`.
    """
    return f"`{' '.join(install_command(*extras))}`"


def install_command(*extras: str) -> list[str]:
    """Return the words of this command, each quoted for a shell."""
    from importlib import util
    from urllib.parse import unquote, urlsplit

    wanted = f"[{','.join(extras)}]"
    url = _direct_url()
    path = unquote(urlsplit(str(url.get("url", ""))).path) if url else ""
    editable = bool(url and url.get("dir_info", {}).get("editable"))
    what = f"{path}{wanted}" if path else f"{NAME}{wanted}"
    prefix = Path(sys.prefix)
    if prefix.parent.name == "tools" and prefix.parent.parent.name == "uv":
        return ["uv", "tool", "install", "--force", shlex.quote(what)]
    if prefix.parent.name == "venvs" and "pipx" in prefix.parts:
        return ["pipx", "install", "--force", shlex.quote(what)]
    options = ["--editable"] if editable else []
    python = shlex.quote(interpreter())
    if util.find_spec("pip") is None:
        return ["uv", "pip", "install", "--python", python, *options, shlex.quote(what)]
    return [python, "-m", "pip", "install", *options, shlex.quote(what)]


def _direct_url() -> dict[str, Any] | None:
    """Return what the installer recorded about the origin of the package; None if it was an index."""
    from importlib import metadata

    try:
        text = metadata.distribution(NAME).read_text("direct_url.json")
        body = parsed(text) if text else None
    except (metadata.PackageNotFoundError, ValueError):
        return None
    return body if isinstance(body, dict) and str(body.get("url", "")).startswith("file:") else None
