"""Reads `Pulumi.yaml` and the stacks beside it, as the engine would hand them to the program."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from infra.settings.reader import NAMESPACE
from runner.errors import ConfigurationError

ROOT = Path(__file__).resolve().parents[1]


def stacks(directory: Path = ROOT) -> list[str]:
    """Return the names of the stacks that have a file, sorted."""
    return sorted(path.name.split(".")[1] for path in directory.glob("Pulumi.*.yaml"))


def schema(directory: Path = ROOT) -> dict[str, dict[str, Any]]:
    """Return what `Pulumi.yaml` says of each setting: type, default, description."""
    entries: dict[str, dict[str, Any]] = _read(directory / "Pulumi.yaml")["config"]
    return entries


def configuration(stack: str, directory: Path = ROOT) -> dict[str, str]:
    """Return a stack's full configuration: keys to texts, lists and objects as JSON.

    Raises:
        ConfigurationError: there is no such file, it is not YAML, or it holds secrets, which only the engine can open.
    """
    path = directory / f"Pulumi.{stack}.yaml"
    if not path.is_file():
        known = ", ".join(stacks(directory)) or "none"
        problem = f"there is no {path.name} in {directory}; stacks here: {known}"
        raise ConfigurationError(problem, problems=[problem], hint="`runner infra bootstrap --stack NAME` writes one")
    given = _read(path).get("config") or {}
    if not isinstance(given, dict) or not all(isinstance(key, str) for key in given):
        problem = f"{path.name}: config is no object of settings"
        raise ConfigurationError(problem, problems=[problem])
    sealed = [key for key, value in given.items() if isinstance(value, dict) and set(value) == {"secure"}]
    if sealed:
        problem = f"{path.name}: {', '.join(sealed)} is encrypted; no setting of this program is a secret"
        raise ConfigurationError(problem, problems=[problem], hint="set it without --secret")
    return {
        key if ":" in key else f"{NAMESPACE}:{key}": value if isinstance(value, str) else json.dumps(value, default=str)
        for key, value in given.items()
    }


def _read(path: Path) -> dict[str, Any]:
    import yaml

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        """Takes no aliases, which can hold themselves, or more than fits into memory."""

        def compose_node(self, parent: Any, index: Any) -> Any:
            """Return the next node."""
            if self.check_event(yaml.AliasEvent):
                raise yaml.YAMLError("aliases (*name) are not supported")
            return super().compose_node(parent, index)

    try:
        body = yaml.load(path.read_text("utf-8"), Loader)  # noqa: S506 - a safe loader
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        problem = f"{path} cannot be read: {error}"
        raise ConfigurationError(problem, problems=[problem]) from error
    if not isinstance(body, dict):
        problem = f"{path} is no YAML object"
        raise ConfigurationError(problem, problems=[problem])
    return body
