"""The completions of a shell, from names on this machine. A completion never waits for a service.

`names.json` in the state directory contains IDs of jobs and endpoints. Commands that list or create resources write the
names there. If the names are old, a completion starts a process that reads them from the service for the next
completion.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterable
from typing import Any

import click
from click.shell_completion import CompletionItem

from runner.json_text import parsed
from runner.wording import state_words

_FRESH_SECONDS = 10.0
_KEPT = 200
"""Names of a kind."""
Kind = str
Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def completed(*kinds: Kind) -> Complete:
    """Return the completion for a parameter with names of these kinds.

    Args:
        kinds: `jobs`, `endpoints`, `models`, `states`, `contexts`, `explanations`.
    """

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        found: dict[str, str] = {}
        with contextlib.suppress(Exception):  # an error would print a traceback into the command line
            for kind in kinds:
                found |= _STATIC[kind]() if kind in _STATIC else _remembered(kind)
        return [CompletionItem(name, help=text) for name, text in found.items() if name.startswith(incomplete)]

    return complete


def remember(kind: Kind, names: Iterable[tuple[str, str]], *, target: str) -> None:
    """Store names, each with a description, for the next completion. Never fails.

    Args:
        kind: `jobs` or `endpoints`.
        names: all names, newest first.
        target: their project and location; names of another target are discarded.
    """
    from runner import local_files
    from runner.errors import RunnerError

    body = _read()
    if body.get("target") != target:
        body = {"target": target}
    body[kind] = {"at": time.time(), "names": dict(list(names)[:_KEPT])}
    with contextlib.suppress(OSError, RunnerError):
        _path().parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        local_files.replace(_path(), json.dumps(body), private=True)


def refresh() -> None:
    """Read the names from the service; runs in the process that a completion starts."""
    from runner.gcp import endpoints, tuning_jobs
    from runner.gcp.connecting import connect

    with connect({}) as session:
        target = str(session.environment.target)
        remember("jobs", jobs_named(tuning_jobs.list_jobs(session, limit=_KEPT)), target=target)
        remember("endpoints", endpoints_named(endpoints.list_endpoints(session)), target=target)


def jobs_named(jobs: Iterable[Any]) -> list[tuple[str, str]]:
    """Return the IDs and names of jobs with descriptions."""
    found = [("latest", "the newest job")]
    for job in jobs:
        state = state_words(job.state)
        found.append((job.id, f"{job.display_name or job.base_model}, {state}"))
        found += [(job.display_name, state)] if job.display_name and " " not in job.display_name else []
    return found


def endpoints_named(endpoints: Iterable[Any]) -> list[tuple[str, str]]:
    """Return the IDs and names of endpoints with descriptions."""
    found = []
    for item in endpoints:
        found.append((item.id, item.display_name or "endpoint"))
        found += [(item.display_name, item.id)] if item.display_name and " " not in item.display_name else []
    return found


def _path() -> Any:
    from runner.state import state_directory

    return state_directory() / "names.json"


def _read() -> dict[str, Any]:
    try:
        body = parsed(_path().read_bytes())
    except (OSError, ValueError):
        return {}
    return body if isinstance(body, dict) else {}


def _remembered(kind: Kind) -> dict[str, str]:
    entry = _read().get(kind) or {}
    if time.time() - float(entry.get("at", 0)) > _FRESH_SECONDS:
        _start_refresh()
    return {str(name): str(text) for name, text in (entry.get("names") or {}).items()}


def _start_refresh() -> None:
    from runner.local_processes import module_command

    command = module_command("runner.cli.completing")
    own = {name: value for name, value in os.environ.items() if not name.startswith(("_RUNNER_COMPLETE", "COMP_"))}
    nowhere = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in range(3)]
    with contextlib.suppress(OSError):
        # Without `subprocess`, whose import takes as long as the rest of a completion.
        os.posix_spawn(command[0], command, own, file_actions=nowhere, setsid=True)


def _models() -> dict[str, str]:
    from runner.catalog import models

    return {model.id: model.name for model in models()}


def _states() -> dict[str, str]:
    from runner.gcp.job_states import STATES

    return dict.fromkeys((state.replace(" ", "-") for state in STATES), "")


def _contexts() -> dict[str, str]:
    from runner.environment import contexts

    saved = {item.name: item.environment or item.project for item in contexts.load().saved}
    return {"emulator": "on this machine", "google": "Google Cloud", **saved}


def _explanations() -> dict[str, str]:
    from runner import explanations

    return {item.name: item.means for item in explanations.every()}


_STATIC: dict[Kind, Callable[[], dict[str, str]]] = {
    "models": _models,
    "states": _states,
    "contexts": _contexts,
    "explanations": _explanations,
}

if __name__ == "__main__":
    with contextlib.suppress(Exception):
        refresh()
