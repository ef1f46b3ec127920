"""Finds the engine, its state, what encrypts the state's secrets, and the policy pack's environment."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from argparse import Namespace
from pathlib import Path

from infra.automation.failures import INSTALL, EngineError
from infra.policy import ENVIRONMENT_HINT
from infra.stack_files import text_of
from runner.errors import ConfigurationError, EngineMissingError

POLICIES = "infra/policy"
OLDEST = (3, 244)
OLDEST_TEXT = ".".join(map(str, OLDEST))
"""The first engine version whose error hooks see all provider errors (requiredPulumiVersion of Pulumi.yaml)."""


def require() -> str:
    """Return the path of the engine.

    Raises:
        EngineMissingError: it is not installed, or is too old; the hint says how to get it.
    """
    found = shutil.which("pulumi")
    if found is None:
        raise EngineMissingError(
            "the Pulumi engine (`pulumi`) is not on the PATH",
            hint=f"install it from {INSTALL} or by `runner infra bootstrap --install-engine`; "
            "`--embedded` works without it in the emulator, `--dry-run` prints gcloud commands",
        )
    said, numbers = version(found)
    if numbers < OLDEST:
        raise EngineMissingError(
            f"the Pulumi engine {found} is {said or 'of no known version'}; {OLDEST_TEXT} or newer is needed",
            hint=f"update it: {INSTALL}, or `runner infra bootstrap --install-engine`",
        )
    return found


def version(path: str) -> tuple[str, tuple[int, int]]:
    """Return the engine's version as text, and its major and minor number; (0, 0) if it reports none."""
    done = subprocess.run([path, "version"], capture_output=True, text=True, check=False, timeout=60)
    match = re.match(r"v?(\d+)\.(\d+)", done.stdout)
    return done.stdout.strip(), (int(match[1]), int(match[2])) if match else (0, 0)


def install() -> str:
    """Download the engine into `~/.pulumi`, as Pulumi's own installer does, and return its path.

    Raises:
        EngineError: it could not be downloaded.
    """
    from pulumi import automation

    try:
        command = automation.PulumiCommand.install()
    except Exception as error:
        raise EngineError(f"the engine could not be installed: {error}", hint=f"see {INSTALL}") from error
    return str(command.command)


def backend(directory: Path) -> str:
    """Return where Pulumi's state is, if variables or files on this machine say so; else ""."""
    if os.environ.get("PULUMI_BACKEND_URL"):
        return os.environ["PULUMI_BACKEND_URL"]
    if any(line.startswith("backend:") for line in (directory / "Pulumi.yaml").read_text("utf-8").splitlines()):
        return "the backend that Pulumi.yaml names"
    if os.environ.get("PULUMI_ACCESS_TOKEN"):
        return "Pulumi Cloud"
    home = Path(os.environ.get("PULUMI_HOME") or Path.home() / ".pulumi")
    try:
        current = json.loads((home / "credentials.json").read_text("utf-8")).get("current")
    except (OSError, ValueError, AttributeError):
        return ""
    return str(current or "")


def secrets_provider(directory: Path, stack: str) -> str | None:
    """Return what encrypts a stack's secrets according to its file; None means a passphrase."""
    file = directory / f"Pulumi.{stack}.yaml"
    match = re.search(r"^secretsprovider:\s*(\S+)", text_of(file), re.MULTILINE)
    return match[1] if match else None


def policy_environment(directory: Path) -> Path:
    """Return the folder of the policy pack's own environment; it may not exist yet."""
    return directory.absolute() / POLICIES / ".venv"


def packs(options: Namespace, directory: Path) -> list[str]:
    """Return the engine's arguments for the policy pack, if the pack was requested.

    Raises:
        ConfigurationError: the pack's environment does not exist.
    """
    if not options.policies:
        return []
    if not policy_environment(directory).is_dir():
        raise ConfigurationError(
            f"the policy pack has no environment: {policy_environment(directory)} is not there", hint=ENVIRONMENT_HINT
        )
    return ["--policy-pack", str(directory.absolute() / POLICIES)]
