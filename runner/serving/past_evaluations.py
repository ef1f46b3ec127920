"""The evaluations that were made on this machine."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from runner import json_text, local_files
from runner.environment import Environment
from runner.errors import NotFoundError
from runner.serving.evaluation import Evaluation
from runner.state import state_directory

KEPT = 200
"""Number of stored evaluations for each project; older ones are deleted."""
_WHOLE, _SUMMARY = ".evaluation.json", ".summary.json"
_ID = re.compile(r"[0-9]{8}T[0-9]{6}-[0-9a-f]{8}")


@dataclass(frozen=True, slots=True)
class Past:
    """A stored evaluation."""

    id: str
    summary: dict[str, Any]
    """`Evaluation.to_json`, without the answers."""


def keep(environment: Environment, evaluation: Evaluation) -> str:
    """Store an evaluation, and return its ID. Raises DiskError, ConfigurationError."""
    folder = _folder(environment)
    identifier = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(evaluation.made))}-{secrets.token_hex(4)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise local_files.unwritable(folder, error) from error
    body = TypeAdapter(Evaluation).dump_python(evaluation)
    local_files.replace(folder / f"{identifier}{_WHOLE}", json.dumps(body))
    # Written last: an evaluation with a summary is complete.
    local_files.replace(folder / f"{identifier}{_SUMMARY}", json.dumps(evaluation.to_json()))
    for old in _ids(folder)[KEPT:]:
        for suffix in (_SUMMARY, _WHOLE):
            (folder / f"{old}{suffix}").unlink(missing_ok=True)
    return identifier


def past(environment: Environment) -> list[Past]:
    """Return the evaluations of a project, newest first; unreadable ones are omitted."""
    folder = _folder(environment)
    found = []
    for identifier in _ids(folder):
        try:
            found.append(Past(identifier, json_text.parsed((folder / f"{identifier}{_SUMMARY}").read_bytes())))
        except (OSError, ValueError):
            continue
    return found


def load(environment: Environment, identifier: str) -> Evaluation:
    """Return an evaluation. Raises NotFoundError."""
    try:
        if not _ID.fullmatch(identifier):
            raise ValueError(identifier)
        body = json_text.parsed((_folder(environment) / f"{identifier}{_WHOLE}").read_bytes())
        return TypeAdapter(Evaluation).validate_python(body)
    except (OSError, ValueError, ValidationError) as error:
        message = f"there is no evaluation {identifier} of {environment.project} on this machine"
        raise NotFoundError(message, resource=identifier) from error


def _folder(environment: Environment) -> Path:
    place = f"{environment.vertex_base}\0{environment.project}".encode()
    return state_directory() / "evaluations" / hashlib.sha256(place).hexdigest()[:16]


def _ids(folder: Path) -> list[str]:
    try:
        names = [path.name.removesuffix(_SUMMARY) for path in folder.iterdir() if path.name.endswith(_SUMMARY)]
    except OSError:
        return []
    return sorted((name for name in names if _ID.fullmatch(name)), reverse=True)
