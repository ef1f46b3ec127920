"""A stack's state, as the engine exports it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.automation import invocation
from infra.automation.failures import EngineError, failure
from infra.urns import name_of
from runner.errors import ConfigurationError

if TYPE_CHECKING:
    from infra.embedded.obstacles import Doomed

Resource = dict[str, Any]


class Exported:
    """An exported state, which can be changed and written back."""

    def __init__(self, stack: str, directory: Path, body: dict[str, Any]) -> None:
        self._stack = stack
        self._directory = directory
        self._body = body
        self.deployment: dict[str, Any] = body.get("deployment") or {}

    @property
    def resources(self) -> list[Resource]:
        """Return the stack's resources in the order of their dependencies."""
        found: list[Resource] = self.deployment.setdefault("resources", [])
        return found

    @property
    def pending(self) -> list[dict[str, Any]]:
        """Return the operations with a result that the engine does not know: `{"resource": …, "type": …}`."""
        return list(self.deployment.get("pending_operations") or [])

    def recorded(self) -> dict[str, Any]:
        """Return the state in the form in which the program receives it."""
        return {
            item["urn"]: {"type": item["type"], "outputs": _open(item.get("outputs") or {})}
            for item in self.resources
            if not item.get("delete")
        }

    def doomed(self, *, staying: set[str]) -> list[Doomed]:
        """Return what is deleted if everything except the resources with these URNs is deleted."""
        return [
            (item["type"], name_of(item["urn"]), str(item.get("id", "")), item.get("inputs") or {})
            for item in self.resources
            if item.get("custom") and item["urn"] not in staying and not item.get("retainOnDelete")
        ]

    def settle(self, added: list[Resource]) -> None:
        """Write the state back with additional resources and without operations of unknown result.

        Raises:
            EngineError: the engine refuses the state.
        """
        self.resources.extend(added)
        self.deployment["pending_operations"] = []
        self._body["deployment"] = self.deployment
        done = invocation.read(
            ["stack", "import", "--stack", self._stack], self._directory, given=json.dumps(self._body)
        )
        if done.status:
            raise failure(done, "import", self._stack)


def _open(value: Any) -> Any:
    """Return outputs without encrypted values: the program compares names of buckets and members."""
    if isinstance(value, dict):
        return {
            key: _open(item) for key, item in value.items() if not (isinstance(item, dict) and "ciphertext" in item)
        }
    return [_open(item) for item in value] if isinstance(value, list) else value


def exported(stack: str, directory: Path) -> Exported:
    """Return a stack's state.

    Raises:
        ConfigurationError: the stack does not exist.
        EngineError: the state cannot be opened.
    """
    done = invocation.read(["stack", "export", "--stack", stack], directory)
    if done.status:
        error = failure(done, "export", stack)
        raise _missing(error, stack) or error
    body: dict[str, Any] = json.loads(done.said)
    return Exported(stack, directory, body)


def _missing(error: EngineError, stack: str) -> ConfigurationError | None:
    if "no stack named" not in error.message:
        return None
    problem = f"there is no stack {stack} yet"
    hint = f"to create it, run `runner infra bootstrap`, then `runner infra up --stack {stack}`"
    return ConfigurationError(problem, hint=hint)


def protected(resources: list[Resource]) -> set[str]:
    """Return the URNs of protected resources and of all their dependencies."""
    by_urn = {item["urn"]: item for item in resources}
    todo = [item["urn"] for item in resources if item.get("protect")]
    found: set[str] = set()
    while todo:
        urn = todo.pop()
        if urn in by_urn and urn not in found:
            found.add(urn)
            item = by_urn[urn]
            todo += [*(item.get("dependencies") or []), item.get("parent") or "", _provider(item)]
    return found


def _provider(item: Resource) -> str:
    return str(item.get("provider") or "").rpartition("::")[0]
