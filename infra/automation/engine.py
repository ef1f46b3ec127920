"""Pulumi's engine, through its Automation API."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from infra.policy import ENVIRONMENT_HINT
from runner.errors import ConfigurationError, EngineMissingError, RunnerError

INSTALL = "https://www.pulumi.com/docs/install/"
POLICIES = "infra/policy"
_HIDDEN = 4000
OLDEST = (3, 244)
OLDEST_TEXT = ".".join(map(str, OLDEST))
"""The first engine whose error hooks see every error of the provider (requiredPulumiVersion of Pulumi.yaml)."""


class EngineError(RunnerError):
    """The engine ran and failed; the message is the end of what it said."""

    code = "infrastructure"


def require() -> str:
    """Return the path of the engine.

    Raises:
        EngineMissingError: it is not here, or too old; the hint says how to get it.
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
    """Return what the engine says of its version, and major and minor number; (0, 0) where it says none."""
    done = subprocess.run([path, "version"], capture_output=True, text=True, check=False, timeout=60)
    match = re.match(r"v?(\d+)\.(\d+)", done.stdout)
    return done.stdout.strip(), (int(match[1]), int(match[2])) if match else (0, 0)


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

    if not backend(directory):
        problem = "it is not said where Pulumi's state is"
        raise ConfigurationError(
            problem,
            problems=[problem],
            hint="PULUMI_BACKEND_URL=gs://BUCKET; `runner infra bootstrap` makes the bucket",
        )
    settings = automation.LocalWorkspaceOptions(secrets_provider=secrets_provider(directory, options.stack))
    open_stack = automation.create_or_select_stack if create else automation.select_stack
    try:
        return open_stack(options.stack, work_dir=str(directory), opts=settings)
    except automation.StackNotFoundError as error:
        problem = f"there is no stack {options.stack} in {backend(directory)}"
        hint = f"`runner infra up --stack {options.stack}` makes it, after `runner infra bootstrap`"
        raise ConfigurationError(problem, problems=[problem], hint=hint) from error
    except Exception as error:  # whatever the Automation API raises: it has no common class
        raise failure(error, options.stack) from error


def backend(directory: Path) -> str:
    """Return where Pulumi's state is, as far as it is said here; "" when it is not."""
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
    """Return what encrypts a stack's secrets, as its file says; None is a passphrase."""
    file = directory / f"Pulumi.{stack}.yaml"
    text = file.read_text("utf-8") if file.is_file() else ""
    match = re.search(r"^secretsprovider:\s*(\S+)", text, re.MULTILINE)
    return match[1] if match else None


def _call(options: Namespace, directory: Path, verb: str, **arguments: Any) -> Any:
    stack = _stack(options, directory, create=verb == "up")
    try:
        return getattr(stack, verb)(on_output=_show, color="never", **arguments)
    except Exception as error:
        raise failure(error, options.stack) from error


def _show(line: str) -> None:
    sys.stderr.write(f"{line}\n")


_HINTS = (
    ("currently locked", "if no other run is alive, `pulumi cancel --stack STACK` removes the lock"),
    ("incorrect passphrase", "PULUMI_CONFIG_PASSPHRASE is not the one that the stack was made with"),
    (
        "passphrase must be set",
        "set PULUMI_CONFIG_PASSPHRASE, or make the stack with a key, as `runner infra bootstrap --stack STACK` says",
    ),
    ("does not satisfy the version range", f"update the engine: {INSTALL}"),
    ("no language plugin", f"the engine alone is not enough; install all of Pulumi: {INSTALL}"),
    ("no resource plugin", "`pulumi install` in the folder of Pulumi.yaml fetches the provider"),
    ("unable to open state directory", "make that folder, or have PULUMI_BACKEND_URL name another"),
    ("PULUMI_ACCESS_TOKEN must be set", "`pulumi login`, or PULUMI_BACKEND_URL=gs://BUCKET"),
    ("could not find default credentials", "`gcloud auth application-default login`"),
    ("bucket doesn't exist", "`runner infra bootstrap --stack STACK` makes it"),
)


def failure(error: Exception, stack: str) -> EngineError:
    """Return what the engine said last, without the frame of the Automation API, and what to do about it."""
    text = str(error).strip()
    if match := re.search(r"^ ?stderr: (.*)", text, re.MULTILINE | re.DOTALL):
        lines = match[1].strip().splitlines()
        said = "\n".join(line for line in lines if not line.startswith("warning: "))
        # What went to standard output was shown while it ran.
        text = said or text
    hint = next((hint for fragment, hint in _HINTS if fragment in text), None)
    hint = hint or f"`pulumi stack --stack {stack}` in the folder of Pulumi.yaml shows what is there"
    return EngineError(text.removeprefix("error: ")[-_HIDDEN:], hint=hint.replace("STACK", stack))


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
    summary = {_word(key): count for key, count in result.change_summary.items()}
    changes = sum(count for key, count in summary.items() if key not in _UNCHANGED)
    return {"summary": summary, "changes": changes, "diff": result.stdout, "text": _counted(summary, "to ")}


def up(options: Namespace, directory: Path) -> dict[str, Any]:
    """Apply, refreshed. Raises ConfigurationError when nobody confirmed it."""
    _ready(options, "up")
    result = _call(options, directory, "up", refresh=True, policy_packs=_packs(options, directory))
    outputs = {key: value.value for key, value in result.outputs.items()}
    return {**_ended(result), "outputs": outputs}


def refresh(options: Namespace, directory: Path) -> dict[str, Any]:
    """Bring the state to what is there."""
    _ready(options, "refresh")
    result = _call(options, directory, "refresh", expect_no_changes=options.expect_no_changes or None)
    return _ended(result)


def destroy(options: Namespace, directory: Path) -> dict[str, Any]:
    """Delete what is not protected. What is stays, and is named."""
    _ready(options, "destroy")
    result = _call(options, directory, "destroy", exclude_protected=True)
    protected = _left(_stack(options, directory))
    done = _ended(result)
    named = [f"protected: {name}" for name in protected]
    return {**done, "protected": protected, "text": "\n".join([*named, done["text"]])}


def _left(stack: Any) -> list[str]:
    """Return the protected resources that a stack still has, as `Type name`."""
    found = stack.export_stack().deployment.get("resources") or []
    protected = [item for item in found if item.get("protect")]
    return sorted(f"{item['type'].rsplit(':', 1)[-1]} {item['urn'].rsplit('::', 1)[-1]}" for item in protected)


def outputs(options: Namespace, directory: Path) -> dict[str, Any]:
    """Return the outputs of the last `up`; {} before there was one."""
    stack = _stack(options, directory)
    try:
        return {key: value.value for key, value in stack.outputs().items()}
    except Exception as error:
        raise failure(error, options.stack) from error


_UNCHANGED = frozenset({"same", "read"})


def _word(key: Any) -> str:
    """Return `create` for the Automation API's `OpType.CREATE`."""
    return str(getattr(key, "value", key)).rsplit(".", 1)[-1].lower()


def _ended(result: Any) -> dict[str, Any]:
    summary = {_word(key): count for key, count in (result.summary.resource_changes or {}).items()}
    return {"summary": summary, "text": _counted(summary)}


def _counted(summary: dict[str, int], prefix: str = "") -> str:
    """Return one line for people: all else was shown while the engine ran."""
    words = {"same": "unchanged"}
    parts = [f"{count} {words.get(name, prefix + name)}" for name, count in sorted(summary.items())]
    return ", ".join(parts) or "nothing to do"


def confirm(options: Namespace, verb: str) -> None:
    """Raise ConfigurationError when nobody confirmed a verb that changes something."""
    if not options.confirmed:
        problem = f"{verb} of stack {options.stack} was not confirmed"
        raise ConfigurationError(
            problem, problems=[problem], hint="confirm with --yes; `runner infra preview` shows it"
        )


def _ready(options: Namespace, verb: str) -> None:
    require()
    confirm(options, verb)
