"""Pulumi's engine, through its Automation API."""

from __future__ import annotations

import os
import shutil
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from infra.policy import ENVIRONMENT_HINT
from runner.errors import ConfigurationError, EngineMissingError, RunnerError

INSTALL = "https://www.pulumi.com/docs/install/"
POLICIES = "infra/policy"
_HIDDEN = 4000


class EngineError(RunnerError):
    """The engine ran and failed; the message is the end of what it said."""

    code = "infrastructure"


def require() -> str:
    """Return the path of the engine. Raises EngineMissingError, which says how to get it."""
    found = shutil.which("pulumi")
    if found is None:
        raise EngineMissingError(
            "the Pulumi engine (`pulumi`) is not on the PATH",
            hint=f"install it from {INSTALL} or by `runner infra bootstrap --install-engine`; "
            "`--embedded` works without it in the emulator, `--dry-run` prints gcloud commands",
        )
    return found


def install() -> str:
    """Download the engine into `~/.pulumi`, where Pulumi's own installer puts it, and return its path.

    Raises:
        EngineError: it could not be downloaded.
    """
    from pulumi import automation

    try:
        command = automation.PulumiCommand.install()
    except Exception as error:
        raise EngineError(f"the engine could not be installed: {error}", hint=f"see {INSTALL}") from error
    return str(command.command)


def _stack(options: Namespace, directory: Path, *, create: bool = False) -> Any:
    require()
    from pulumi import automation

    if not (os.environ.get("PULUMI_BACKEND_URL") or has_backend(directory) or os.environ.get("PULUMI_ACCESS_TOKEN")):
        problem = "it is not said where Pulumi's state is"
        raise ConfigurationError(
            problem,
            problems=[problem],
            hint="PULUMI_BACKEND_URL=gs://BUCKET; `runner infra bootstrap` makes the bucket",
        )
    try:
        if create:
            return automation.create_or_select_stack(options.stack, work_dir=str(directory))
        return automation.select_stack(options.stack, work_dir=str(directory))
    except automation.StackNotFoundError as error:
        problem = f"there is no stack {options.stack} in this backend"
        raise ConfigurationError(problem, problems=[problem], hint="`runner infra bootstrap` makes it") from error
    except automation.CommandError as error:
        raise _failure(error) from error


def has_backend(directory: Path) -> bool:
    """Tell whether Pulumi.yaml says where the state is."""
    return any(line.startswith("backend:") for line in (directory / "Pulumi.yaml").read_text("utf-8").splitlines())


def _call(options: Namespace, directory: Path, verb: str, **arguments: Any) -> Any:
    require()  # before pulumi is loaded for nothing
    from pulumi import automation

    stack = _stack(options, directory, create=verb == "up")
    try:
        return getattr(stack, verb)(on_output=_show, color="never", **arguments)
    except automation.CommandError as error:
        raise _failure(error) from error


def _show(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _failure(error: Exception) -> EngineError:
    text = str(error).strip()
    hint = None
    if "the stack is currently locked" in text:
        hint = "if no other run is alive, `pulumi cancel` removes the lock"
    elif "passphrase" in text:
        hint = "PULUMI_CONFIG_PASSPHRASE, or a key: `runner infra bootstrap`"
    return EngineError(text[-_HIDDEN:], hint=hint)


def policy_environment(directory: Path) -> Path:
    """Return the folder of the policy pack's own environment, which may not be there yet."""
    return directory / POLICIES / ".venv"


def _packs(options: Namespace, directory: Path) -> list[str] | None:
    if not options.policies:
        return None
    if not policy_environment(directory).is_dir():
        problem = f"the policy pack has no environment: {policy_environment(directory)} is not there"
        raise ConfigurationError(problem, problems=[problem], hint=ENVIRONMENT_HINT)
    return [str(directory / POLICIES)]


def preview(options: Namespace, directory: Path) -> dict[str, Any]:
    """Preview, refreshed: what the stack would change."""
    result = _call(options, directory, "preview", diff=True, refresh=True, policy_packs=_packs(options, directory))
    summary = {str(key): count for key, count in result.change_summary.items()}
    changes = sum(count for key, count in summary.items() if key not in {"same", "OpType.SAME", "read"})
    return {"summary": summary, "changes": changes, "diff": result.stdout, "text": result.stdout}


def up(options: Namespace, directory: Path) -> dict[str, Any]:
    """Apply, refreshed. Raises ConfigurationError when nobody confirmed it."""
    _confirmed(options, "up")
    result = _call(options, directory, "up", refresh=True, policy_packs=_packs(options, directory))
    outputs = {key: value.value for key, value in result.outputs.items()}
    return {"summary": dict(result.summary.resource_changes or {}), "outputs": outputs, "text": result.stdout}


def refresh(options: Namespace, directory: Path) -> dict[str, Any]:
    """Bring the state to what is there."""
    _confirmed(options, "refresh")
    result = _call(options, directory, "refresh", expect_no_changes=options.expect_no_changes or None)
    return {"summary": dict(result.summary.resource_changes or {}), "text": result.stdout}


def destroy(options: Namespace, directory: Path) -> dict[str, Any]:
    """Delete what is not protected. What is stays, and the engine's output names it."""
    _confirmed(options, "destroy")
    result = _call(options, directory, "destroy", exclude_protected=True)
    return {"summary": dict(result.summary.resource_changes or {}), "text": result.stdout}


def outputs(options: Namespace, directory: Path) -> dict[str, Any]:
    """Return the outputs of the last `up`."""
    return {key: value.value for key, value in _stack(options, directory).outputs().items()}


def _confirmed(options: Namespace, verb: str) -> None:
    require()
    if not options.confirmed:
        problem = f"{verb} of stack {options.stack} was not confirmed"
        raise ConfigurationError(problem, problems=[problem], hint="--yes confirms it; `runner infra preview` shows it")
